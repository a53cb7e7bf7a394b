"""The grant types of the token endpoint: one file each, named by its RFC's word."""
