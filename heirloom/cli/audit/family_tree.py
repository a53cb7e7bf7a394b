"""A family as a picture: its generations, when each was issued and to whom, and where a theft branched off."""

from rich.text import Text
from rich.tree import Tree

from heirloom.cli.tables import LATE, Answer, console, plain, shown, when


def print_picture(answer: Answer) -> None:
    """Print one branch from each generation to the next; a reused token hangs on its generation.

    A forged one hangs on the newest generation, a code on the family itself.
    """
    generations: dict[int, Tree] = {}
    title = f"{answer['family_id']} · {answer['client_id']} for {answer['sub']} · {answer['status']}"
    root = newest = Tree(plain(title, "bold"))
    for entry in answer["timeline"]:
        types = entry["types"]
        if "current_generation" in entry:
            branch = root if entry["reason"] == "code_reuse" else generations.get(entry["generation"], newest)
            what = shown(entry["reason"], entry["generation"])
            style = "yellow" if entry["reason"] == LATE else "red"
            branch.add(_line("✗", f"{what} by {entry['presented_by']}", entry, style))
        elif "generation" in entry and entry["generation"] not in generations:
            newest = newest.add(_line("●", f"generation {entry['generation']} to {entry['actor']}", entry, "green"))
            generations[entry["generation"]] = newest
        if "FamilyRevoked" in types:
            root.add(_line("■", f"the end: {entry.get('reason', 'revoked')}", entry, "bold red"))
    console().print(root)


def _line(mark: str, text: str, entry: Answer, style: str) -> Text:
    return Text.assemble((f"{mark} ", style), plain(text), (f"  {when(entry['at'])} · seq {entry['seq']}", "dim"))
