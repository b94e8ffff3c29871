"""
The commands of ``occ log`` as tables: each asks the review and prints its answer.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final

from toolkit.cli._ask import Ask
from toolkit.cli._options import FAILED, FINE
from toolkit.cli._show import Column, clean, clock, count, footer_lines, seconds, share, spark, text
from toolkit.review import advice as advising
from toolkit.review import answers, series
from toolkit.review.engine import Review
from toolkit.review.parallel import review
from toolkit.review.quick import RateCounter, TopCounter
from toolkit.review.run import pour

_NOTHING: Final = (
    "no events in these files; a process writes them with OCC_LOG=occ-{pid}.jsonl or toolkit.log_to(path)"
)


def _nothing(answer: dict[str, Any], otherwise: str = "") -> str:
    """
    Why there is nothing to show.
    """
    read = answer["read"]
    if not read["events"]:
        return _NOTHING
    return otherwise if read["kept"] and otherwise else "no event in these files is like that"


def _review(ask: Ask, *, by: str = "writer", files: Sequence[str] | None = None) -> Review:
    names = list(ask.files if files is None else files)
    with ask.progress(names) as progress:
        return review(names, query=ask.query, by=by, progress=progress)


def summary(ask: Ask) -> None:
    found = _review(ask)
    answer = answers.summary(found)
    hot = answers.top(found, limit=ask.limit)["keys"]
    advice = advising.advise(found)
    answer["top"] = hot
    answer["advice"] = [
        {"rule": one.rule, "title": one.title, "why": one.why, "do": one.do} for one in advice
    ]
    facts = _facts(answer)
    if not ask.out.people:
        ask.out.answer(
            answer | {"facts": facts} if ask.out.form != "json" else answer,
            "facts",
            [text("figure", "figure"), text("value", "value")],
        )
        return
    if not answer["events"]:
        ask.out.say(_nothing(answer))
    else:
        ask.out.table(facts, [text("", "figure"), Column("", "value")])
    if hot:
        ask.out.table(hot, _KEYS[:6], title="Hottest keys")
        rivals = ", ".join(
            f"{clean(one['loser'])} to {clean(one['winner'])} {one['count']:,}x" for one in hot[0]["rivals"]
        )
        ask.out.say(f"On {clean(hot[0]['key'])} most often lost: {rivals}\n")
    for one in advice[:1]:
        ask.out.say(f"Advice: {clean(one.title)}", "bold green")
        ask.out.say(f"{clean(one.why)} {clean(one.do)}")
    if hot:
        more = f"occ log advise ({len(advice)} in all), " if len(advice) > 1 else ""
        more += f"occ log key {clean(hot[0]['key'])}, " if hot[0]["key"] else ""
        ask.out.say(f"Read on: {more}occ log pairs, occ log report: each with the same files\n")
    ask.out.footer(answer["read"])


def _facts(answer: dict[str, Any]) -> list[dict[str, str]]:
    span = answer["span"]
    rows = [
        ("from", clean(span["first"])),
        ("seconds", f"{span['seconds']:,}"),
        ("operations", count(answer["operations"])),
        ("updates committed", count(answer["updates"])),
        ("lost attempts", f"{count(answer['conflicts'])} ({share(answer['conflict_ratio'])} of all)"),
        ("work lost", f"{seconds(answer['lost_s'])} ({share(answer['lost_share'])} of operation time)"),
        ("waited", seconds(answer["wait_s"])),
        ("gave up", count(answer["gave_up"])),
        ("outcome unknown", count(answer["outcome_unknown"])),
        (
            "operation takes",
            " / ".join(f"{seconds(answer['total_s'][q])} {q}" for q in ("p50", "p95", "p99")),
        ),
        ("keys, writers", f"{count(answer['keys'])}, {count(answer['writers'])}"),
    ]
    rows += [("access denied", count(answer["access_denied"]))] if answer["access_denied"] else []
    rows += [("warnings", count(answer["warnings"]))] if answer["warnings"] else []
    if answer["basis"] != "lines":
        rows.append(("totals from", "the writers' summaries, which are exact"))
    return [{"figure": name, "value": value} for name, value in rows]


_KEYS: Final = [
    text("key", "key"), Column("lost", "lost", count), Column("won", "won", count), Column("loss", "loss_ratio", share),
    Column("lost time", "lost_s", seconds), Column("share", "share", share), Column("gave up", "gave_up", count),
    Column("writers", "writers", count), text("trend", "trend"),
]  # fmt: skip


def top(ask: Ask, by: str, group: str) -> None:
    with ask.progress() as progress:
        counter = pour(ask.files, TopCounter(group), ask.query, progress)
    answer = counter.answer(by=by, limit=ask.limit)
    title = {"key": "key", "tpl": "template", "op": "operation"}.get(group, group)
    columns = [text(title, "key"), *_KEYS[1:-1], Column("trend", "trend", spark, right=False)]
    ask.out.answer(answer, "keys", columns, empty=_nothing(answer, "no conflicts"))
    if answer["rest"]["keys"]:
        ask.out.say(
            f"and {answer['rest']['keys']:,} more keys with {answer['rest']['lost']:,} losses, counted together; "
            f"a row may miss up to {answer['error']:,} losses"
        )
    ask.out.footer(answer["read"])


def rate(ask: Ask, every: float) -> None:
    with ask.progress() as progress:
        counter = pour(ask.files, RateCounter(every), ask.query, progress)
    answer = counter.answer(limit=ask.limit)
    most = max((row["conflicts"] for row in answer["rates"]), default=0) or 1

    def bar(value: float) -> str:
        return "█" * round(20.0 * value / most)

    columns = [
        Column("at", "at", clock if ask.out.people else clean, right=False), Column("conflicts", "conflicts", count),
        Column("commits", "commits", count), Column("gave up", "gave_up", count), Column("lost time", "lost_s", seconds),
        Column("loss", "conflict_ratio", share),
    ]  # fmt: skip
    if ask.out.people:
        columns.append(Column("", "conflicts", bar, right=False))
    ask.out.answer(answer, "rates", columns, empty=_nothing(answer))
    ask.out.footer(answer["read"])


def attempts(ask: Ask) -> None:
    answer = series.attempts(_review(ask))
    answer["attempts"] = answer["attempts"][: ask.limit]
    columns = [
        Column("attempt", "attempt", count), Column("committed", "committed", count), Column("lost", "lost", count),
        Column("success", "success", share), Column("done by then", "cumulative", share), Column("gave up", "gave_up", count),
    ]  # fmt: skip
    ask.out.answer(answer, "attempts", columns, empty=_nothing(answer, "no attempts"))
    if ask.out.people and answer["limits"]:
        columns = [Column("with at most", "max_attempts", count), Column("would give up", "gave_up", count)]
        ask.out.table(answer["limits"], columns)
    ask.out.footer(answer["read"])


def pairs(ask: Ask, by: str) -> None:
    answer = answers.pairs(_review(ask, by=by), limit=ask.limit)
    columns = [
        text("loser", "loser"), text("lost to", "winner"), Column("times", "count", count),
        Column("lost time", "lost_s", seconds),
    ]  # fmt: skip
    ask.out.answer(answer, "pairs", columns, empty=_nothing(answer, "no conflicts"))
    ask.out.footer(answer["read"])


def heat(ask: Ask, rows: int, sort: str) -> None:
    answer = series.heat(_review(ask), rows=rows, sort=sort, columns=60)
    if ask.out.people and answer["rows"]:
        _heat_blocks(ask, answer)
    else:
        columns = [text("key", "key"), Column("lost", "lost", count), Column("lost time", "lost_s", seconds)]
        ask.out.answer(
            answer,
            "rows",
            [*columns, Column("cells", "cells", lambda cells: " ".join(map(str, cells)))],
            empty=_nothing(answer, "no conflicts"),
        )
    ask.out.footer(answer["read"])


def _heat_blocks(ask: Ask, answer: dict[str, Any]) -> None:
    import math

    from rich.text import Text

    shades = ("grey15", "#3b1d5e", "#7b2382", "#b73779", "#ed6925", "#fcb519", "#fcffa4")
    most = max(max(row["cells"]) for row in answer["rows"]) or 1
    width = min(32, max(len(clean(row["key"])) for row in answer["rows"]))
    for row in answer["rows"]:
        line = Text(f"{clean(row['key'])[:width]:<{width}} {row['lost']:>8,} ")
        for cell in row["cells"]:
            level = 0 if not cell else 1 + min(5, int(5.99 * math.log1p(cell) / math.log1p(most)))
            # A digit where there is no colour: the level of the block.
            line.append("█" if ask.out.console.color_system else " 123456"[level], style=shades[level])
        ask.out.console.print(line, soft_wrap=True)
    ask.out.say(f"a block is {answer['step_s']:g} s; from {answer['starts'][0]}; brightest {most:,} losses")


def gave_up(ask: Ask) -> None:
    answer = series.gave_up(_review(ask), limit=ask.limit)
    columns = [
        Column("at", "at", clock if ask.out.people else clean, right=False), text("op", "op"), text("key", "key"),
        text("writer", "writer"), Column("attempts", "attempts", count), Column("took", "total_s", seconds),
        text("reason", "reason"), text("last lost to", "last_winner"), text("story", "call_id"),
    ]  # fmt: skip
    ask.out.answer(answer, "gave_up", columns, empty=_nothing(answer, "nobody gave up"))
    ask.out.footer(answer["read"])


def story(ask: Ask, wanted: str, files: Sequence[str]) -> int:
    from toolkit.review.spool import spooled
    from toolkit.review.story import stories

    with spooled(files) as names:
        answer = stories(names, wanted, limit=ask.limit, query=ask.query)
        secret = os.environ.get("OCC_LOG_SECRET", "")
        if not answer["stories"] and secret:
            from toolkit.log import op_hasher

            answer = stories(names, op_hasher(secret.encode())(wanted), limit=ask.limit, query=ask.query)
            answer["asked"] = wanted
    if not ask.out.people:
        ask.out.answer(
            answer, "stories", [text("call_id", "call_id"), text("result", "result"), text("key", "key")]
        )
        return FINE if answer["stories"] else FAILED
    for one in answer["stories"]:
        _one_story(ask, one)
    if not answer["stories"]:
        ask.out.say(
            f"no line mentions {clean(wanted)} as a call, op, trace, workflow, actor, request or write id"
        )
    elif answer["all_stories"] > len(answer["stories"]):
        ask.out.say(f"{answer['all_stories']:,} in all; --limit shows more")
    ask.out.footer(answer["read"])
    return FINE if answer["stories"] else FAILED


def _one_story(ask: Ask, one: dict[str, Any]) -> None:
    of = f" of {one['max_attempts']}" if one["max_attempts"] else ""
    why = f" ({one['reason']})" if one["reason"] else ""
    ask.out.say(
        f"{one['call_id']}  {clean(one['op'])} on {clean(one['key'])} by {clean(one['writer'])}: {one['result']}{why} at attempt "
        f"{one['attempts']}{of} in {seconds(one['total_s'])}; lost {seconds(one['lost_s'])}, waited {seconds(one['wait_s'])}",
        "bold",
    )
    for name, label in (
        ("op_id", "op id"),
        ("workflow_id", "workflow"),
        ("receipt", "receipt"),
        ("write_id", "write"),
    ):
        if one.get(name):
            ask.out.say(f"  {label} {clean(one[name])}")
    rows = [{**step, "to": _beaten(step["winner"])} for step in one["steps"]]
    columns = [
        Column("at", "offset_s", seconds), Column("attempt", "attempt", count), text("", "result"),
        text("built on", "base_etag"), Column("read", "read_s", seconds), Column("function", "fn_s", seconds),
        Column("write", "write_s", seconds), text("lost to", "to"), Column("then waited", "wait_s", seconds),
    ]  # fmt: skip
    ask.out.table(rows, columns)


def _beaten(winner: dict[str, Any] | None) -> str:
    if winner is None:
        return ""
    if not winner["writer"]:
        return f"(not logged) {clean(winner['write_id'] or '')}".rstrip()
    if "call_id" not in winner:
        return clean(winner["writer"])
    gap = winner["before_s"]
    when = f"{seconds(gap)} earlier" if gap >= 0 else f"{seconds(-gap)} later by its clock"
    return f"{clean(winner['writer'])} {clean(winner['op'])} {clean(winner['call_id'])} ({when})"


def key(ask: Ask, name: str, files: Sequence[str]) -> int:
    from toolkit.review.keyview import key_view
    from toolkit.review.spool import spooled

    with spooled(files) as names:
        answer = key_view(names, name, limit=ask.limit, query=ask.query)
        secret = os.environ.get("OCC_LOG_SECRET", "")
        if not answer["lines"] and secret:
            from toolkit.log import key_hasher

            answer = key_view(names, key_hasher(secret.encode())(name), limit=ask.limit, query=ask.query)
            answer["asked"] = name
    columns = [
        Column("at", "at", clock if ask.out.people else clean, right=False), text("event", "event"), text("op", "op"),
        text("writer", "writer"), Column("attempt", "attempt", count), text("built on", "base_etag"),
        Column("carried", "combined", count), text("lost to", "winner"), text("call", "call_id"),
    ]  # fmt: skip
    if answer["lines"]:
        rate = (
            f", {answer['writes_per_s']:,} writes/s, {answer['concurrency']:,} attempts at a time"
            if answer["seconds"]
            else ""
        )
        ask.out.say(
            f"{clean(name)}: won {count(answer['won'])}, lost {count(answer['lost'])} ({share(answer['loss_ratio'])}), gave up "
            f"{count(answer['gave_up'])}, lost time {seconds(answer['lost_s'])}{rate}",
            "bold",
        )
    ask.out.answer(answer, "lines", columns, empty=f"no line is about the key {clean(name)}")
    ask.out.footer(answer["read"])
    return FINE if answer["lines"] else FAILED


def diff(ask: Ask, before: str, after: str) -> None:
    from toolkit.review.diff import diff as compare

    answer = compare(_review(ask, files=[before]), _review(ask, files=[after]), limit=ask.limit)
    columns = [
        text("figure", "figure"), Column("before", "before", _figure), Column("after", "after", _figure),
        Column("change", "change", _figure), Column("95 % from", "low", _figure), Column("to", "high", _figure),
        Column("clear", "clear", lambda clear: "yes" if clear else "no"),
    ]  # fmt: skip
    ask.out.answer(answer, "figures", columns)
    if ask.out.people:
        rows = [row for row in answer["keys"] if row["verdict"] != "same"]
        keys = [
            text("key", "key"), text("", "verdict"), Column("lost before", "before_lost", count),
            Column("after", "after_lost", count), Column("loss before", "before_ratio", share),
            Column("after", "after_ratio", share), Column("time before", "before_lost_s", seconds),
            Column("after", "after_lost_s", seconds),
        ]  # fmt: skip
        if rows:
            ask.out.table(rows, keys, title="Keys that changed")
        for name in ("before", "after"):
            for line, _ in footer_lines(answer["read"][name]):
                ask.out.say(f"{name}: {line}", "dim")


def _figure(value: Any) -> str:
    return "" if value is None else f"{value:.4g}"


def check(ask: Ask, chosen: dict[str, str]) -> bool:
    from toolkit.review.checks import check as hold
    from toolkit.review.checks import limit

    limits = {rule: limit(value, rule) for rule, value in chosen.items()}
    with ask.progress() as progress:
        counter = pour(ask.files, RateCounter(), ask.query, progress)
    answer = hold(counter, limits)
    columns = [
        text("rule", "rule"), text("what", "meaning"), Column("value", "value", _figure), Column("limit", "limit", _figure),
        Column("", "passed", lambda passed: "passed" if passed else "FAILED", right=False),
    ]  # fmt: skip
    ask.out.answer(answer, "rules", columns)
    if not answer["events"]:
        ask.out.say("no events: a log that says nothing passes no rule", "red")
    ask.out.footer(answer["read"])
    return bool(answer["passed"])


def advise(ask: Ask) -> None:
    answer = advising.answer(_review(ask))
    answer["advice"] = answer["advice"][: ask.limit]
    if not ask.out.people:
        columns = [text(name, name) for name in ("rule", "confidence", "title", "why", "do")]
        ask.out.answer(answer, "advice", [*columns, Column("keys", "keys", str)])
        return
    for one in answer["advice"]:
        ask.out.say(f"{clean(one['title'])}  [{one['rule']}, {one['confidence']} confidence]", "bold green")
        ask.out.say(f"  {clean(one['why'])}\n  {clean(one['do'])}")
        if one["keys"]:
            ask.out.say(f"  keys: {', '.join(clean(name) for name in one['keys'])}\n", "dim")
    if not answer["advice"]:
        few = answer["losses"] < answer["least_losses"]
        ask.out.say(
            f"nothing to say: {answer['losses']:,.0f} lost attempts, and no rule speaks below {answer['least_losses']}"
            if few else "nothing stands out"
        )  # fmt: skip
    ask.out.footer(answer["read"])
