"""The commands of CONTRACT §7, one file each."""
