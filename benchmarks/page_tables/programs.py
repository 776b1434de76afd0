"""Tables about a child process, a server, several adapters, bundles, and other busy programs on the machine."""

from __future__ import annotations

from benchmarks.page_tables.sources import provenance, results, short, table


def neighbours() -> str:
    """Return the table of rows/s while other programs keep the cores busy, for plain llama.cpp and for ecellm-lite."""
    facts = results("neighbours")
    rows = []
    for hogs in facts["ours"]["rows_per_second"]:
        cells = []
        for way in ("plain", "ours"):
            one = facts[way]
            part = f", {one['of_the_rate_alone'][hogs]:.0%}" if hogs != "0" else ""
            cells += [f"{one['rows_per_second'][hogs]:.2f}{part}", f"{one['hog_share'][hogs]:.0%}" if part else ""]
        fair = facts["ours"]["fair_share"]
        rows.append((hogs, *cells, f"{fair[hogs]:.0%}" if hogs in fair else ""))
    head = (
        "busy programs",
        "plain llama.cpp: rows/s, of the rate alone",
        "of a core, each program",
        "here: rows/s, of the rate alone",
        "of a core, each program",
        "equal part",
    )
    alone = f"Alone it has {1 - facts['cost_alone']:.0%} of plain llama.cpp's rate (median over pairs of short turns)"
    return f"{table(head, rows)}\n\n{alone} {provenance('neighbours')}."


def adapters() -> str:
    """Return the table that compares three adapters on one base model with three merged models."""
    facts = results("adapters")
    names = {
        "one_base": "one base, three adapters",
        "three_processes": "three merged models, a process each",
        "alone": "one merged model for all rows",
    }
    rows = [
        (name, f"{facts['rows_per_second'][way]:.2f}", f"{facts['peak_memory_mib'][way]:,.0f} MiB")
        for way, name in names.items()
    ]
    lines = table(("", "rows/s", "peak memory"), rows)
    return f"{lines}\n\n{facts['same_answers']:.1%} of the answers are the merged models' {provenance('adapters')}."


def pipe() -> str:
    """Return the table of rows per second with a Runtime, a ChildRuntime and a pipe.

    Below the table, a line gives the time of one request and the time until a new process gives its first answer.
    """
    facts = results("pipe")
    rows = [
        (
            short(task),
            *(f"{rate:.1f}" for rate in one["rows_per_second"].values()),
            *(f"{part:.0%}" for part in one["of_the_runtime"].values()),
        )
        for task, one in facts["tasks"].items()
    ]
    rows.append(("geometric mean", "", "", "", *(f"{part:.0%}" for part in facts["of_the_runtime"].values())))
    head = ("rows/s", "Runtime", "ChildRuntime", "pipe", "ChildRuntime of Runtime", "pipe of Runtime")
    requests = ", ".join(f"{ms:.0f} ms ({way})" for way, ms in facts["one_request"]["milliseconds"].items())
    starts = ", ".join(f"{seconds:.2f} s ({name})" for name, seconds in facts["cold_start"].items())
    return (
        f"{table(head, rows)}\n\nOne request alone: {requests}. First answer of a new process: {starts} "
        f"{provenance('pipe')}."
    )


def kills() -> str:
    """Return the table of the kills benchmark: how fast a ChildRuntime recovers after its child is killed."""
    facts = results("kills")
    first, back, after = facts["first_answer"], facts["back"], facts["rate_after"]
    longest = "not by the next kill" if back["longest"] is None else f"{back['longest']:.1f} s"
    rows = [
        ("from the kill to the first answer", f"{first['median']:.1f} s", f"{first['longest']:.1f} s"),
        ("from the kill to 85% of the rate before it", f"{back['median']:.1f} s", longest),
        ("rate from 3 s after the kill, of the one before it", f"{after['median']:.0%}", f"{after['lowest']:.0%}"),
    ]
    heading = (f"{facts['kills']} kills", "median", "worst")
    ends = ", ".join(f"{count:,} {outcome}" for outcome, count in facts["outcomes"].items())
    return (
        f"{table(heading, rows)}\n\n{facts['requests']:,} requests of {facts['clients']} clients: {ends}. "
        f"The median rate before a kill was {facts['rates']['median']:.1f} rows/s {provenance('kills')}."
    )


def load() -> str:
    """Return the table of the load benchmark (64 clients at once), and sentences about its rates and memory."""
    facts = results("load")
    rows = [
        (
            name,
            f"{way['rows_per_second']:.1f}",
            *(f"{way['milliseconds'][p]:.0f}" for p in ("p50", "p95", "p99")),
            ", ".join(f"{status}: {number:,}" for status, number in way["statuses"].items()),
        )
        for name, way in facts["ways"].items()
    ]
    head = ("", "rows/s", "p50, ms", "p95, ms", "p99, ms", "responses by status")
    times = ", ".join(f"{value:.0%} of {name}'s" for name, value in facts["of_the_rate"].items())
    memory = facts["memory_mib"]
    sizes = ", ".join(f"{name} {memory[0][name]:.0f} → {memory[-1][name]:.0f} MiB" for name in memory[0])
    return (
        f"{table(head, rows)}\n\nThe server's rate is {times} (median over the same parts). "
        f"Memory from the first part to the last: {sizes} {provenance('load')}."
    )


def questions() -> str:
    """Return the results of benchmarks/questions.py.

    A table has the seconds that each program took for all questions. A sentence says how many tokens our engine read.
    """
    facts = results("questions")
    rows = [
        (name if name == "ecellm-lite" else f"llama-server, {name}", f"{seconds:.1f}")
        for name, seconds in facts["seconds"].items()
    ]
    head = (f"{facts['questions']} questions about {facts['words']} words", "s")
    one = facts["tokens"][0]
    return (
        f"{table(head, rows)}\n\nOf {one['all']:,} tokens in the prompts, {one['common']:,} are common to all and "
        f"{one['behind']:,} follow them; {one['read']:,} were read {provenance('questions')}."
    )


def bundle() -> str:
    """Return two tables of times.

    The first says how long it takes to create and to verify a large bundle, compared with `cp` and `sha256sum`. The
    second has the times and sizes of bundles of the demo.
    """
    facts = results("bundle")
    large = facts["large"]
    steps = [
        (
            step,
            f"{seconds:.1f}",
            str(large["megabytes_per_second"][step]),
            f"{large['peak_memory_mib'][step]:.0f} MiB" if step in large["peak_memory_mib"] else "",
        )
        for step, seconds in large["seconds"].items()
    ]
    ways = [
        (
            way,
            f"{one['bytes'] / 1e6:.0f} MB",
            *(f"{one[f'{step}_seconds']:.1f}" for step in ("create", "verify", "install")),
        )
        for way, one in facts["demo"].items()
    ]
    head = (f"{large['bytes'] / 1e9:.1f} GB of random bytes", "seconds", "MB/s", "peak memory")
    demo = table(("the demo", "bundle", "create, s", "verify, s", "install, s"), ways)
    return f"{table(head, steps)}\n\n{demo}\n\n{provenance('bundle')}"


def bare_install() -> str:
    """Return the table of how long a new Debian system needs to install a bundle, and then to answer."""
    rows = [
        (f"{way}, {cache}", *(f"{seconds:.0f} s" for seconds in (*times.values(), sum(times.values()))))
        for way, caches in results("bare_install")["seconds"].items()
        for cache, times in caches.items()
    ]
    return f"{table(('bundle with', 'installed in', 'first answer in', 'both'), rows)}\n\n{provenance('bare_install')}"


def standalone() -> str:
    """Return two tables that compare an installed package with the standalone program: sizes, and starting times."""
    facts = results("standalone")
    sizes = [(name, f"{size / 1e6:,.0f} MB") for name, size in facts["bytes"].items()]
    ways = facts["seconds"]
    starts = [(step, *(f"{ways[way][step]:.2f} s" for way in ways)) for step in ways["standalone"]]
    return (
        f"{table(('file or folder', 'size'), sizes)}\n\n"
        f"Folder and package hold the demo's weights too, {facts['demo_weights_bytes'] / 1e6:,.0f} MB.\n\n"
        f"{table(('from the start to the end of', *ways), starts)}\n\n{provenance('standalone')}"
    )
