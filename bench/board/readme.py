"""The block of README.md that holds the scoreboard: written from its files alone, so that its figures are theirs."""
from . import cases, figures, table

BEGIN = "<!-- scoreboard: written by bench/scoreboard --readme -->"
END = "<!-- scoreboard: end -->"
TITLES = {"gpu": "On a GPU", "cpu": "On a CPU"}


def block(boards, peers):
    parts = []
    for board in boards:
        picture = f"docs/scoreboard-{board['kind']}.svg"
        markdown = table.as_markdown(board, peers, cases.PROMPT, cases.GENERATE)
        parts.append(f"![{TITLES[board['kind']]}: tokens a second, and shares of the floor]({picture})\n\n{markdown}")
    return "\n".join(parts)


def replaced(text, boards, peers):
    """The README's text with the block of these boards. Raises ValueError where it has no place for it."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"README.md has no lines '{BEGIN}' and '{END}', once each and in this order")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n{block(boards, peers)}{END}{after}"


def update(path, boards, peers):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    figures.write(path, replaced(text, boards, peers))
