"""Write the reference pages, `.env.example` and the comments of the promotion policy from the code that defines them.

make docs-reference                       write what has changed
.venv/bin/python docs/reference.py --check     fail if anything is stale; part of `make lint`
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs/pages/reference"
os.environ.setdefault("CHURN_BUCKET_SALT", "only for reading defaults")
os.environ["TERMINAL_WIDTH"] = "100"

import typer  # noqa: E402 -- after the environment is set
import yaml  # noqa: E402
from pydantic import AfterValidator  # noqa: E402
from pydantic.fields import FieldInfo  # noqa: E402
from pydantic_core import PydanticUndefined  # noqa: E402

from churn.cli.main import app  # noqa: E402
from churn.decision.policy_file import Policy, Section  # noqa: E402
from churn.decision.reasons import Reason  # noqa: E402
from churn.foundation.schema import metadata  # noqa: E402
from churn.scoring.scoring_policy import ScoringPolicy  # noqa: E402
from churn.settings import PYTHON, Settings, environment_name  # noqa: E402

NOTICE = "<!-- Written by `make docs-reference` from {source}. Edit the code, not this page. -->\n\n"
POLICY_FILE = ROOT / "include/churn/promotion_policy.yaml"
SCORING_POLICY_FILE = ROOT / "include/churn/scoring_policy.yaml"
NO_DEFAULT = "-"


def main() -> int:
    """Write or check every file; returns the exit status."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--check", action="store_true", help="only report files that are stale")
    check = arguments.parse_args().check
    stale = [path for path, text in written_files() if not path.exists() or path.read_text() != text]
    if check and stale:
        names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
        print(f"Stale: {names}. Run `make docs-reference` and commit the result.", file=sys.stderr)  # noqa: T201
        return 1
    for path, text in written_files():
        if path in stale:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            print(f"wrote {path.relative_to(ROOT)}")  # noqa: T201
    return 0


def written_files() -> Iterator[tuple[Path, str]]:
    """Every generated file with its text."""
    yield PAGES / "settings.md", settings_page()
    yield ROOT / ".env.example", env_example()
    yield PAGES / "cli.md", cli_page()
    yield POLICY_FILE, commented_policy(Policy, POLICY_FILE.read_text(), POLICY_HEADER)
    yield SCORING_POLICY_FILE, commented_policy(ScoringPolicy, SCORING_POLICY_FILE.read_text(), SCORING_HEADER)
    yield PAGES / "policy.md", policy_page()
    yield PAGES / "scoring-policy.md", scoring_policy_page()
    yield PAGES / "ledger.md", ledger_page()


def default_of(name: str) -> str:
    """The default of a setting as text; empty for "not set"."""
    field = Settings.model_fields[name]
    if name == "mlflow_tracking_uri":
        return "http://127.0.0.1:5005"
    if name == "base_image":  # that of the running Python; the same page on every version
        return str(field.default).replace(PYTHON, "3.11")
    if field.default in (PydanticUndefined, None):
        return ""
    return str(field.default).lower() if isinstance(field.default, bool) else str(field.default)


def sections() -> dict[str, list[str]]:
    """The names of the settings by section, in the order in which they are defined."""
    found: dict[str, list[str]] = {}
    for name, field in Settings.model_fields.items():
        extra: Any = field.json_schema_extra
        found.setdefault(extra["section"], []).append(name)
    return found


def settings_page() -> str:
    """The table of settings."""
    lines = [
        "# Settings",
        "",
        "Settings are environment variables. The order of precedence is: environment, `.env` in the checkout, files in "
        "`var/secrets` or `/run/secrets`, default. An invalid value or an unknown `CHURN_` name is an error that says what is allowed.",
        "",
        "`churn settings` shows the values in force, and `.env.example` lists all settings with their defaults. Services read their settings "
        "when they start, so restart them after a change. The stack has [further settings](stack-settings.md).",
    ]
    for title, names in sections().items():
        lines += ["", f"## {title}", "", "| setting | default | meaning |", "|---|---|---|"]
        for name in names:
            default = default_of(name)
            shown = f"`{default}`" if default else NO_DEFAULT
            lines.append(f"| `{environment_name(name)}` | {shown} | {Settings.model_fields[name].description} |")
    return NOTICE.format(source="`include/churn/settings.py`") + "\n".join(lines) + "\n"


def env_example() -> str:
    """The settings as a file to copy."""
    lines = [
        '# Settings. Copy this file to .env and remove the "# " from the lines that you change.',
        "#",
        "# A line that is commented out shows the default; an empty value means that it is not set. The environment takes",
        "# precedence over .env. `churn settings` prints the values in force. The stack of docker-compose.yaml reads the same",
        "# file, and `make up` adds its secrets to it. Written by `make docs-reference`.",
    ]
    for title, names in sections().items():
        lines += ["", "", f"# --- {title}"]
        for name in names:
            value = default_of(name)
            quoted = f'"{value}"' if " " in value else value
            description = (Settings.model_fields[name].description or "").replace("`", "")
            lines += ["", f"# {description}", f"# {environment_name(name)}={quoted}"]
    return "\n".join(lines) + "\n"


def cli_page() -> str:
    """Every command with its arguments and options."""
    lines = [
        "# Command line",
        "",
        "`churn` is `.venv/bin/churn`. Run `source .venv/bin/activate` once per shell; in the stack, run "
        "`docker compose run --rm churn COMMAND`.",
        "",
        "`churn COMMAND --help` shows the same on the terminal. Listings accept `--json`. A command exits with 1 and one clear message "
        "when something is wrong, and with 2 when it is called incorrectly.",
        "",
        "| command | what it does |",
        "|---|---|",
    ]
    commands = list(walk_commands(typer.main.get_command(app), "churn"))
    lines += [f"| [`{name}`](#{anchor(name)}) | {first_sentence(command)} |" for name, command in commands]
    for name, command in commands:
        lines += ["", f"## `{name}` {{ #{anchor(name)} }}", "", plain_help(command)]
        parameters = [row for parameter in command.params if (row := parameter_row(parameter))]
        if parameters:
            lines += ["", "| argument or option | default | meaning |", "|---|---|---|", *parameters]
    return NOTICE.format(source="`include/churn/cli/`") + "\n".join(lines) + "\n"


def walk_commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every visible command below a group, with its full name."""
    if not hasattr(command, "commands"):
        yield name, command
        return
    if command.invoke_without_command and name != "churn":
        yield name, command
    for child in command.commands.values():
        if not child.hidden:
            yield from walk_commands(child, f"{name} {child.name}")


def anchor(name: str) -> str:
    """The fragment that links to a command's section."""
    return name.replace(" ", "-")


def plain_help(command: Any) -> str:
    """The help text of a command, one paragraph a line."""
    paragraphs = re.split(r"\n\s*\n", (command.help or "").strip())
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def first_sentence(command: Any) -> str:
    """The first paragraph of a command's help."""
    return plain_help(command).split("\n\n", maxsplit=1)[0]


def parameter_row(parameter: Any) -> str | None:
    """A row for an argument or option; None for `--help` and the like."""
    if getattr(parameter, "hidden", False) or parameter.name in {"help", "install_completion", "show_completion"}:
        return None
    if parameter.param_type_name == "option":
        label = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    else:
        label = f"`{(parameter.metavar or parameter.name or '').upper()}`"
    default = parameter.default
    shown = f"`{default}`" if default not in (None, False, "", ()) and not callable(default) else NO_DEFAULT
    if parameter.required:
        shown = "required"
    text = " ".join((getattr(parameter, "help", None) or "").split())
    return f"| {label} | {shown.replace(str(ROOT) + '/', '')} | {text} |"


POLICY_HEADER = (
    "What a challenger must show before it goes into production. Reviewed in git.",
    "`churn policy check FILE` validates a policy, and `churn simulate --policy FILE` shows what it would do in a year.",
)
SCORING_HEADER = (
    "Whom to contact, what that costs and may bring, and who is left alone for comparison. Reviewed in git.",
    "`churn score FILE --dry-run` shows what it would do, and publishes nothing.",
)


def commented_policy(policy: type[Section], text: str, header: tuple[str, ...]) -> str:
    """A policy file with the description of each section and key as comment; its values are kept."""
    written = (*header, "The comments are written from the code by `make docs-reference`.")
    lines = [f"# {line}" for line in written]
    section = ""
    for line in text.splitlines():
        if match := re.match(r"^([a-z_]+):", line):
            section = match.group(1)
            model: Any = policy.model_fields[section].annotation
            lines += ["", f"# {first_line(model.__doc__)}", f"{section}:"]
        elif match := re.match(r"^  ([a-z_]+): *([^#]*?) *(#.*)?$", line):
            key, value = match.group(1), match.group(2)
            model = policy.model_fields[section].annotation
            lines.append(f"  {f'{key}: {value}':<30} # {model.model_fields[key].description}")
    return "\n".join(lines) + "\n"


def first_line(text: str | None) -> str:
    """The first line of a docstring."""
    return (text or "").strip().splitlines()[0]


def limits(part: FieldInfo) -> str:
    """The values that a key may have."""
    if any(isinstance(mark, AfterValidator) for mark in part.metadata):
        return "two numbers, below and above 1"
    words = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}
    kind = "whole number, " if part.annotation is int else ""
    return kind + ", ".join(
        f"{words[sign]} {getattr(mark, sign):,}" for mark in part.metadata for sign in words if hasattr(mark, sign)
    )


def policy_page() -> str:
    """Sections and keys of the policy, and the reasons of decisions."""
    lines = [
        "# Promotion policy",
        "",
        "`include/churn/promotion_policy.yaml`, or the file that `CHURN_POLICY_FILE` names. Every key is required unless it has a default, and an "
        "unknown key is an error. [How decisions are made](../decisions.md) explains how the rules work together.",
        *policy_sections(Policy, POLICY_FILE),
    ]
    lines += [
        "",
        "## Reasons",
        "",
        "Every decision has one reason. *Alert*: people are notified of the hold. *Forceable*: a person may promote in spite of it.",
        "",
        "| reason | verdict | alert | forceable | next step |",
        "|---|---|---|---|---|",
    ]
    for reason in Reason:
        implied = reason.implication
        if implied.promotes:
            lines.append(f"| `{reason}` | promote | - | - | - |")
        else:
            alert, force = ("-" if implied.routine else "yes"), ("yes" if implied.forceable else "-")
            step = "-" if implied.routine else implied.next_step("RUN")
            lines.append(f"| `{reason}` | hold | {alert} | {force} | {step} |")
    return NOTICE.format(source="`include/churn/decision/policy_file.py` and `reasons.py`") + "\n".join(lines) + "\n"


def scoring_policy_page() -> str:
    """Sections and keys of the scoring policy."""
    lines = [
        "# Scoring policy",
        "",
        "`include/churn/scoring_policy.yaml`, or the file that `CHURN_SCORING_POLICY_FILE` names. Every key is required unless it has a default, "
        "and an unknown key is an error. [Using the scores](../using-the-scores.md) explains what it decides.",
        *policy_sections(ScoringPolicy, SCORING_POLICY_FILE),
    ]
    return NOTICE.format(source="`include/churn/scoring/scoring_policy.py`") + "\n".join(lines) + "\n"


def policy_sections(policy: type[Section], file: Path) -> Iterator[str]:
    """The sections of a policy, each with a table of its keys."""
    values = yaml.safe_load(file.read_text())
    for section, field in policy.model_fields.items():
        model: Any = field.annotation
        yield from (
            "",
            f"## {section}",
            "",
            first_line(model.__doc__),
            "",
            "| key | shipped value | default | limits | meaning |",
            "|---|---|---|---|---|",
        )
        for key, part in model.model_fields.items():
            shipped = f"`{values[section][key]}`" if key in values[section] else ""
            default = "required" if part.is_required() else "" if part.default is None else f"`{part.default}`"
            yield f"| `{key}` | {shipped} | {default} | {limits(part)} | {part.description} |"


def ledger_page() -> str:
    """Tables and columns of the ledger."""
    lines = [
        "# Ledger schema",
        "",
        "The ledger is a SQLite or PostgreSQL database. It is migrated when it is opened, and rows are never deleted from it. "
        "Read it freely; write to it only through the product. Some names are older than today's terms: `night` is the id of a run, and "
        "`anchor` is the baseline version.",
    ]
    for table in metadata.tables.values():
        lines += ["", f"## {table.name}", "", "| column | type | null | meaning |", "|---|---|---|---|"]
        for column in table.columns:
            if not column.doc:
                raise ValueError(f"{table.name}.{column.name} has no meaning. Give its column in schema.py a `doc`.")
            key = " (key)" if column.primary_key else ""
            null = "yes" if column.nullable else "no"
            lines.append(f"| `{column.name}`{key} | {column.type.__class__.__name__.lower()} | {null} | {column.doc} |")
    return NOTICE.format(source="`include/churn/foundation/schema.py`") + "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
