"""
The sections of the report as HTML: every number stands here, the scripts only draw.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from toolkit.review import answers, series
from toolkit.review.advice import advise
from toolkit.review.engine import Review
from toolkit.review.report.data import matrix
from toolkit.review.text import clean, count, seconds, share

Row = dict[str, Any]


def t(value: Any) -> str:
    """
    Text of a log, safe in HTML.
    """
    return escape(clean(value), quote=True)


def table(
    caption: str,
    heads: Sequence[tuple[str, str]],
    rows: Iterable[Sequence[tuple[str, Any]]],
    *,
    attributes: str = "",
) -> str:
    """
    A table; a head is (title, class), a cell (HTML, value to sort by).
    """
    head = "".join(f'<th scope="col" class="{kind}">{title}</th>' for title, kind in heads)
    kinds = [kind for _, kind in heads]
    body: list[str] = []
    for row in rows:
        cells: list[str] = []
        for index, ((html, value), kind) in enumerate(zip(row, kinds, strict=True)):
            sort = f' data-v="{t(value)}"' if value is not None else ""
            tag = 'th scope="row"' if index == 0 else "td"
            cells.append(f'<{tag} class="{kind}"{sort}>{html}</{tag.split(" ", maxsplit=1)[0]}>')
        body.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{t(caption)}"><table{attributes}><caption>{t(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def tiles(summary: Row) -> str:
    """
    The headline figures.
    """
    quantiles = summary["total_s"]
    facts = [
        ("Operations", count(summary["operations"]), f"{count(summary['updates'])} updates committed", ""),
        (
            "Lost attempts",
            count(summary["conflicts"]),
            f"{share(summary['conflict_ratio'])} of all attempts",
            "conflict",
        ),
        (
            "Work lost",
            seconds(summary["lost_s"]),
            f"{share(summary['lost_share'])} of operation time",
            "lost",
        ),
        ("Gave up", count(summary["gave_up"]), _reasons(summary), "gave-up" if summary["gave_up"] else ""),
        ("Outcome unknown", count(summary["outcome_unknown"]), "answers that never came", ""),
        (
            "Typical operation",
            seconds(quantiles["p50"]),
            f"p95 {seconds(quantiles['p95'])}, p99 {seconds(quantiles['p99'])}",
            "",
        ),
        ("Keys", count(summary["keys"]), f"{count(summary['writers'])} writers", ""),
    ]
    return "".join(
        f'<div class="tile {kind}"><dt>{name}</dt><dd>{value}<small>{t(note)}</small></dd></div>'
        for name, value, note, kind in facts
    )


def _reasons(summary: Row) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in summary["reasons"].items()) or "nobody"


def cards(review: Review) -> str:
    """
    The advice.
    """
    found = advise(review)
    if not found:
        return '<p class="none">Nothing stands out in this log. (No rule speaks below 50 lost attempts.)</p>'
    return "".join(
        f'<article class="card {one.confidence}"><h3>{t(one.title)}</h3><p>{t(one.why)}</p><p class="do">{t(one.do)}</p>'
        f'<p class="meta"><span class="chip">{one.rule}</span> {one.confidence} confidence'
        + "".join(f' <code class="key">{t(key)}</code>' for key in one.keys)
        + "</p></article>"
        for one in found
    )


def bar(value: float, most: float, kind: str) -> str:
    """
    A bar inside a cell; the number beside it says the same.
    """
    width = 100 * value / most if most else 0
    return f'<span class="bar {kind}" style="width:{width:.1f}%" aria-hidden="true"></span>'


def attempts(review: Review) -> str:
    """
    Attempts by number, with the success of each.
    """
    answer = series.attempts(review)
    rows = answer["attempts"]
    most = max((row["committed"] + row["lost"] for row in rows), default=0)
    body = table(
        "Attempts by number",
        [
            ("Attempt", "n"),
            ("Committed", "n"),
            ("Lost", "n"),
            ("", "chart"),
            ("Success", "n"),
            ("Done by then", "n"),
            ("Gave up", "n"),
        ],
        [
            [
                (str(row["attempt"]), row["attempt"]),
                (count(row["committed"]), row["committed"]),
                (count(row["lost"]), row["lost"]),
                (bar(row["committed"], most, "commit") + bar(row["lost"], most, "conflict"), None),
                (share(row["success"]), row["success"]),
                (share(row["cumulative"]), row["cumulative"]),
                (count(row["gave_up"]), row["gave_up"]),
            ]
            for row in rows
        ],
    )
    limits = table(
        "Give-ups to expect at other limits",
        [("With at most", "n"), ("Would give up", "n")],
        [
            [
                (
                    f"{row['max_attempts']} attempt{'s' if row['max_attempts'] > 1 else ''}",
                    row["max_attempts"],
                ),
                (count(row["gave_up"]), row["gave_up"]),
            ]
            for row in answer["limits"]
        ],
    )
    waits = answer["wait_s"]
    return (
        f'<div class="columns wide-first">{body}<div>{limits}<p class="note">Half of the waits between attempts are under '
        f"{seconds(waits['p50'])}, 95 % under {seconds(waits['p95'])}.</p></div></div>"
    )


def quantiles(review: Review) -> str:
    """
    How long operations took.
    """
    rows = series.distribution(review)
    most = max((row["total_s"] for row in rows), default=0.0)
    return table(
        "Time from first read to end",
        [("Share of operations", ""), ("Faster than", "n"), ("", "chart")],
        [
            [
                (_quantile(row["quantile"]), row["quantile"]),
                (seconds(row["total_s"]), row["total_s"]),
                (bar(row["total_s"], most, "commit"), None),
            ]
            for row in rows
        ],
    )


def _quantile(value: float) -> str:
    return "all" if value == 1.0 else f"{100 * value:g} %"


def versus(review: Review) -> str:
    """
    Losers and winners as a matrix.
    """
    losers, winners, cells = matrix(review)
    if not losers:
        return '<p class="none">Nobody lost.</p>'
    most = max(number for number, _ in cells.values())
    heads = [
        ("loser, down; winner, across", "corner"),
        *((t(name), "n name") for name in winners),
        ("all", "n sum"),
    ]
    rows: list[list[tuple[str, Any]]] = []
    for loser in losers:
        row: list[tuple[str, Any]] = [(t(loser), loser)]
        for winner in winners:
            number, lost = cells.get((loser, winner), (0, 0.0))
            row.append((_cell(number, lost, most), number))
        whole = sum(number for (one, _), (number, _) in cells.items() if one == loser)
        rows.append([*row, (count(answers.number(whole)), whole)])
    return table("Who lost to whom", heads, rows, attributes=' class="matrix"')


def _cell(number: float, lost: float, most: float) -> str:
    if not number:
        return '<span class="zero">0</span>'
    level = number / most
    strong = " strong" if level > 0.55 else ""
    return f'<span class="heat{strong}" style="--level:{level:.3f}" title="{seconds(lost)} lost">{count(answers.number(number))}</span>'


def hot_keys(review: Review, max_rows: int) -> str:
    """
    The contended keys, to sort and to filter.
    """
    answer = answers.top(review, limit=max_rows)
    rows = answer["keys"]
    most = max((row["lost_s"] for row in rows), default=0.0)
    heads = [
        ("Key", ""), ("Lost", "n"), ("Won", "n"), ("Loss", "n"), ("Lost time", "n"), ("Share", "n"), ("", "chart"),
        ("Gave up", "n"), ("Writers", "n"), ("Read to write", "n"), ("Most often", ""),
    ]  # fmt: skip
    body = table(
        "Contended keys, the costliest first",
        heads,
        [[
            (f'<code class="key">{t(row["key"])}</code>', clean(row["key"])), (count(row["lost"]), row["lost"]),
            (count(row["won"]), row["won"]), (share(row["loss_ratio"]), row["loss_ratio"]),
            (seconds(row["lost_s"]), row["lost_s"]), (share(row["share"]), row["share"]),
            (bar(row["lost_s"], most, "lost"), None), (count(row["gave_up"]), row["gave_up"]),
            (count(row["writers"]), row["writers"]), (seconds(row["window_s"]), row["window_s"]), (_rival(row), None),
        ] for row in rows],
        attributes=' id="hot" class="sortable"',
    )  # fmt: skip
    more = ""
    if answer["contended"] > len(rows):
        more = f'<p class="note">The first {len(rows):,} of {answer["contended"]:,} contended keys; <code>occ log top --limit N</code> lists more.</p>'
    if answer["rest"]["keys"]:
        more += (
            f'<p class="note">{answer["rest"]["keys"]:,} rarely contended keys are counted together ({count(answer["rest"]["lost"])} '
            f"losses); a row may miss up to {count(answer['error'])} losses.</p>"
        )
    return body + more


def _rival(row: Row) -> str:
    if not row["rivals"]:
        return ""
    one = row["rivals"][0]
    return f'{t(one["loser"])} <span class="to">lost to</span> {t(one["winner"])} <small>{count(one["count"])}&times;</small>'


def failures(review: Review, limit: int = 200) -> str:
    """
    Operations that gave up, each with its story.
    """
    answer = series.gave_up(review, limit=limit)
    if not answer["gave_up"]:
        return '<p class="none">Every operation went through.</p>'
    told = "".join(_failure(row) for row in answer["gave_up"])
    more = ""
    if answer["all"] > len(answer["gave_up"]):
        more = f'<p class="note">The last {len(answer["gave_up"]):,} of {count(answer["all"])}; <code>occ log gave-up</code> lists more.</p>'
    return f'<div class="stories">{told}</div>{more}'


def _failure(row: Row) -> str:
    steps = table(
        f"Attempts of {row['call_id'] or 'this operation'}",
        [("Attempt", "n"), ("At", ""), ("Read", "n"), ("Function", "n"), ("Write", "n"), ("Lost to", ""), ("Then waited", "n")],
        [
            [
                (str(step["attempt"]), None), (f"<time>{t(step['at'][11:23])}</time>", None), (seconds(step["read_s"]), None),
                (seconds(step["fn_s"]), None), (seconds(step["write_s"]), None), (t(step["winner"]), None),
                (seconds(step["wait_s"]), None),
            ]
            for step in row["steps"]
        ],
    )  # fmt: skip
    own = f", op id <code>{t(row['op_id'])}</code>" if row["op_id"] else ""
    plain = '<p class="none">Its attempts are not in this log.</p>'
    return (
        f'<details><summary><time>{t(row["at"][11:23])}</time> <b>{t(row["op"])}</b> on <code class="key">{t(row["key"])}</code> by '
        f'{t(row["writer"])} <span class="chip bad">{t(row["reason"])}</span> after {count(row["attempts"])} attempts, '
        f'{seconds(row["total_s"])}</summary><p class="note">call <code>{t(row["call_id"])}</code>{own}, error {t(row["error_type"])}, '
        f"lost {seconds(row['lost_s'])}, waited {seconds(row['wait_s'])}.</p>{steps if row['steps'] else plain}</details>"
    )


def _clock(one: dict[str, Any]) -> str:
    return f"{t(one['ahead'])} is at least {seconds(one['by_s'])} ahead of {t(one['behind'])}"


def how_read(review: Review, names: Sequence[str], query: str) -> str:
    """
    What the report rests on.
    """
    read = answers.read_from(review)
    write: list[tuple[str, str]] = [
        (
            "Files",
            ", ".join(t(name) for name in names[:20])
            + (f" and {len(names) - 20} more" if len(names) > 20 else ""),
        ),
        ("Asked for", t(query) or "everything"),
        ("Lines", count(read["lines"])),
        (
            "Events",
            count(read["events"])
            + (f", of which {count(read['kept'])} asked for" if read["kept"] != read["events"] else ""),
        ),
        ("Torn or broken lines", count(read["torn"])),
        ("Lines of other programs", count(read["foreign"])),
        ("Lines of a later schema version", count(read["future"])),
        ("Lines over 1 MB", count(read["oversized"])),
        (
            "Sampling",
            "none"
            if read["sample"] == 1
            else f"down to {100 * read['sample']:.3g} % of races kept: counts are estimates",
        ),
        ("Lines the writers could not write", count(read["dropped"])),
        (
            "Losses without a winner in these files",
            count(answers.number(sum(row.unmatched for row in review.keys.all()))),
        ),
        ("Give-ups without a story", count(review.untold)),
        *(("Clocks that disagree", _clock(one)) for one in read["clocks"]),
        ("Schema version", "1"),
        *(("Problem", t(problem)) for problem in read["problems"]),
    ]
    return (
        "<dl class=facts>"
        + "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in write)
        + "</dl>"
    )
