"""Names that a misspelt name may stand for."""

from collections.abc import Iterable
from difflib import get_close_matches

MOST = 3  # suggestions in a message


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns the question "did you mean A, B or C?"; "" if no known name is similar.

    Args:
        name: a key with dots, or the name of a choice.
        known: keys with dots, or names of choices.
    """
    found = similar(name, known)
    if not found:
        return ""
    return f"did you mean {' or '.join(filter(None, (', '.join(found[:-1]), found[-1])))}?"


def similar(name: str, known: Iterable[str]) -> list[str]:
    """Returns at most `MOST` known names, the most similar one first.

    A key may be known by its last word (steps: stages.child.steps), or may have a misspelt word anywhere.
    """
    by_lower = {k.lower(): k for k in known}
    wanted = name.lower()
    section, _, word = wanted.rpartition(".")
    words = {k: k.rpartition(".")[2] for k in by_lower}
    close_words = get_close_matches(word, set(words.values()), MOST, 0.75)
    found = [
        *get_close_matches(wanted, by_lower, MOST, 0.85),
        *(k for k in by_lower if k.endswith(f".{wanted}")),
        *(k for k, last in words.items() if section and last in close_words and k.startswith(f"{section}.")),
        *sorted((k for k, last in words.items() if last in close_words), key=lambda k: close_words.index(words[k])),
        *get_close_matches(wanted, by_lower, MOST, 0.7),
    ]
    return [by_lower[k] for k in list(dict.fromkeys(found))[:MOST]]
