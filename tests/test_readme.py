"""What the README says is so: its links lead somewhere, its commands are there, its figures stand in the results."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import click
import pytest

from ecellm_lite.cli.main import COMMANDS, cli, run_command
from ecellm_lite.models.store import StoredModel
from ecellm_lite.tasks.registry import TASKS

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_nothing_is_left_to_fill_in() -> None:
    assert not re.search(r"@@|@[A-Z]+@|\{\{|TODO|<!--|^(?!END$)[A-Z]+$", README, re.MULTILINE)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", (ROOT / page).read_text("utf-8")):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_links_within_the_page_lead_to_a_chapter() -> None:
    headings = re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    found = re.findall(r"\]\(#([^)]+)\)", README)
    assert found
    assert not set(found) - anchors


def command_lines() -> list[tuple[click.Command, list[str]]]:
    """Return the shell blocks' lines that call this project, as a command and the words behind it."""
    lines = "".join(blocks("sh")).replace("\\\n", " ").splitlines()
    door = "ecellm-lite "
    return [(cli, shlex.split(line.removeprefix(door), comments=True)) for line in lines if line.startswith(door)]


@pytest.mark.parametrize(("command", "words"), command_lines(), ids=lambda given: str(given)[:60])
def test_the_commands_are_there(command: click.Command | None, words: list[str]) -> None:
    while isinstance(command, click.Group):
        name, *words = words
        command = command.get_command(click.Context(command), name)
    assert command is not None
    command.make_parser(click.Context(command)).parse_args(words)  # raises for an option that it has not


def test_the_options_that_are_spoken_of_are_there() -> None:
    known = {"--help"}
    groups: list[click.Command] = [cli]
    while groups:
        command = groups.pop()
        known |= {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
        if isinstance(command, click.Group):
            context = click.Context(command)
            groups += [
                found for name in command.list_commands(context) if (found := command.get_command(context, name))
            ]
    text = re.sub(r"^```.*?^```", "", README, flags=re.DOTALL | re.MULTILINE)
    spoken = {option for code in re.findall(r"`([^`]+)`", text) for option in re.findall(r"(?<!\S)--[a-z-]+", code)}
    assert len(spoken) > 20
    assert not spoken - known


def test_every_command_is_spoken_of() -> None:
    for name in COMMANDS:
        assert f"ecellm-lite {name}" in README, name


def test_the_python_runs(demo_model: StoredModel, capsys: pytest.CaptureFixture[str]) -> None:
    [code] = blocks("python")
    exec(compile(code, "README.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_the_tasks_are_listed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    run_command(["tasks"])
    assert capsys.readouterr().out in README


def test_the_own_task_answers_as_shown(
    tmp_path: Path, demo_model: StoredModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [block] = [code for code in blocks("sh") if "support_routing.toml <<" in code]
    found = re.fullmatch(r"cat > (\S+) <<'END'\n(.*)END\necellm-lite (.*)\n", block, re.DOTALL)
    assert found
    (tmp_path / found[1]).write_text(found[2])
    monkeypatch.chdir(tmp_path)
    assert run_command([*shlex.split(found[3]), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    [shown] = [text for text in blocks("text") if text.startswith(f"{answer['value']} ")]
    shares = {line.split()[0]: float(line.split()[-1].rstrip("%")) for line in shown.splitlines()[2:6]}
    assert list(shares) == list(answer["probabilities"])
    for value, share in answer["probabilities"].items():
        assert shares[value] == pytest.approx(100 * share, abs=3)  # machines differ in the last bits, not in this
    assert run_command(["tasks", str(tmp_path / found[1])]) == 0
    wrong = found[2].replace('value = "other"', 'valeu = "other"')
    (tmp_path / found[1]).write_text(wrong)
    capsys.readouterr()
    assert run_command(["tasks", found[1]]) == 3
    assert capsys.readouterr().err.removeprefix("ecellm-lite: ").strip() in README


def test_the_figures_stand_in_the_results() -> None:
    results = json.loads((RESULTS / "rows.json").read_text("utf-8"))
    assert f"Of the {results['rows']:,} labelled rows" in README
    assert f"{results['problems']} had an answer" in README


def test_the_rates_stand_in_the_results() -> None:
    folder = ROOT / "benchmarks" / "results"
    throughput = json.loads((folder / "throughput.json").read_text("utf-8"))
    for name, mean in throughput["geometric_means"].items():
        assert f"{mean:.2f}" in README, name
    for task in throughput["tasks"].values():
        cells = [f"{rate:.1f}" for rate in task["rows_per_second"].values()]
        cells += [f"{ratio:.2f}" for name, ratio in task["ratios"].items() if name != "ecellm-lite"]
        assert f"| {' | '.join(cells)} | {task['of_the_roofline']:.0%} |" in README
    agreement = json.loads((folder / "agreement.json").read_text("utf-8"))
    assert f"of {agreement['rows']} labelled rows of the scored tasks, {agreement['agreeing']} were" in README
    grouping = json.loads((folder / "grouping.json").read_text("utf-8"))
    assert f"ran {grouping['ratio']:.1f} times as fast" in README
    drafts = json.loads((folder / "drafts.json").read_text("utf-8"))
    together, alone = drafts["ratio"]["together"], drafts["ratio"]["one by one"]
    assert (
        f"on {drafts['rows']} rows of AG that was\n{together:.1f} times as fast in one job, and {alone:.1f} times one"
        in README
    )
    memory = json.loads((folder / "memory.json").read_text("utf-8"))["demo_model"]
    assert f"grew by {memory['growth_mib']:.1f} MiB, to {memory['resident_mib'][-1]:.0f} MiB" in README
    assert memory["minutes"] == 10
    for model in json.loads((folder / "cold_start.json").read_text("utf-8"))["models"].values():
        assert f"| {model['cold']['row']:.2f} s | {model['warm']['row']:.2f} s |" in README


def test_the_quantizers_figures_stand_in_the_results() -> None:
    folder = ROOT / "benchmarks" / "results"
    quantize = json.loads((folder / "quantize.json").read_text("utf-8"))
    for name, measured in quantize["types"].items():
        times = [f"{each:.1f}" for way, each in measured["times_ggml"].items() if way != "ggml"]
        rate = f"{measured['million_weights_per_second']['ggml']:.1f}"
        assert f"| {' | '.join([name, rate, *times])} |" in README
    [(_, merged)] = [pair for pair in quantize["merge"]["times_plain"].items() if pair[0] != "plain"]
    assert f"leaves {merged:.2f} of the rate" in README
    counted = [
        each
        for kind in json.loads((folder / "identity.json").read_text("utf-8"))["types"].values()
        for each in kind.values()
    ]
    assert f"of {min(each['weights'] for each in counted):,} weights" in README
    assert f"{sum(each['blocks_that_differ'] for each in counted)} blocks differed" in README


def test_the_converters_figures_stand_in_the_results() -> None:
    folder = ROOT / "benchmarks" / "results"
    convert = json.loads((folder / "convert.json").read_text("utf-8"))
    assert f"That is {convert['times_faster']:.1f} times as fast." in README
    for step, one in convert["steps"].items():
        name = "**one pass, ecellm-lite convert**" if step == "ecellm-lite" else step
        memory, written = f"{one['peak_memory'] / 2**30:.2f} GiB", f"{one['written'] / 1e9:.1f} GB"
        assert f"| {name} | {one['seconds']:.0f} | {memory} | {written} |" in README
    large = json.loads((folder / "convert_large.json").read_text("utf-8"))["steps"]["ecellm-lite"]
    assert f"took {large['seconds']:.0f} s and {large['peak_memory'] / 2**30:.2f} GiB" in README
    exactness = json.loads((folder / "exactness.json").read_text("utf-8"))
    assert f"F32 files and {exactness['prompts']} prompts each" in README
    assert not sum(case["misplaced"] for case in exactness["cases"].values())
    assert max(case["mean_kl"] for case in exactness["cases"].values()) < 1e-5
    [limit] = re.findall(r"no logit by more than ([\d.]+)", README)
    assert exactness["largest_logit_difference"] <= float(limit)


def test_the_gpus_figures_stand_in_the_results() -> None:
    offload = json.loads((RESULTS / "offload.json").read_text("utf-8"))
    rates = [f"{offload['rows_per_second'][task]:.1f}" for task in TASKS]
    assert f"| {' | '.join(task.abbreviation for task in TASKS.values())} |" in README
    assert f"| rows/s | {' | '.join(rates)} |" in README
    assert f"loaded in {offload['load_seconds']:.2f} s." in README
    closed = [each for each in offload["tasks"].values() if "agreeing" in each]
    rows, agreeing = (sum(each[key] for each in closed) for key in ("rows", "agreeing"))
    assert f"Of {rows} rows of the eight\ntasks with closed answers {agreeing} were answered alike" in README
    assert f"at most {max(each['largest_difference'] for each in closed):.2f} apart" in README
    same = {name: each["same"] for name, each in offload["tasks"].items() if "same" in each}
    extractions, texts = same["attribute_value_extraction"], same["answer_generation"]
    assert f"{extractions} of {offload['rows']} extractions were the same, and {texts} of" in README


def test_the_demos_figures_stand_in_the_results() -> None:
    path = RESULTS / "demo.json"
    if not path.exists():
        pytest.skip("benchmarks/demo.py was not run yet")
    for task, found in json.loads(path.read_text("utf-8"))["tasks"].items():
        demo, *others = (found["values"][way] for way in ("demo", "base", "majority", "best_constant"))
        cells = [f"{demo['value']:.3f} ({demo['low']:.3f} to {demo['high']:.3f})"]
        cells += [f"{other['value']:.3f}" for other in others]
        row = rf"\| {TASKS[task].abbreviation} \| {found['rows']} \| [^|]+ \| {re.escape(' | '.join(cells))} \|"
        assert re.search(row, README), row


def test_the_file_types_figures_stand_in_the_results() -> None:
    table = json.loads((RESULTS / "quantization.json").read_text("utf-8"))
    for name, kind in table["types"].items():
        begin = f"| {name} | {kind['bytes'] / 1e6:.1f} MB | "
        rates = f" | {kind['prefill_tokens_per_second']:.0f} | {kind['decode_tokens_per_second']:.0f} | "
        end = f" | {kind['agreement']:.1%} | {kind['kl']:.4f} |"
        [row] = [line for line in README.splitlines() if line.startswith(begin)]
        assert rates in row
        assert row.endswith(end)
    again = json.loads((RESULTS / "quantization_sixth.json").read_text("utf-8"))["types"]
    shares = {name: f"{kind['agreement']:.1%}" for name, kind in again.items()}
    assert f"Q8_0 answers {shares['Q8_0']} of the rows as F16 does, Q6_K {shares['Q6_K']}" in README
    assert f"Q5_K_M {shares['Q5_K_M']} and Q4_K_M {shares['Q4_K_M']}" in README


def test_what_is_said_of_the_demos_probabilities_stands_in_the_results() -> None:
    tasks = json.loads((RESULTS / "demo.json").read_text("utf-8"))["tasks"]
    for name, found in tasks.items():
        if found["rows"] >= 300:
            assert f"{found['ece']:.3f} ({TASKS[name].abbreviation})" in README
    matching, sentiment = (
        tasks[name]["paraphrased"]["values"]["paraphrased"]["value"]
        for name in ("product_matching", "sentiment_analysis")
    )
    assert f"it has {matching:.3f} on PM and {sentiment:.3f} on SA" in README
    written = json.loads((RESULTS / "written_products.json").read_text("utf-8"))["models"]
    card = (ROOT / "ecellm_lite" / "demo" / "adapter" / "README.md").read_text("utf-8")
    before, not_kept, after = written.values()
    assert (
        f"{before['right']} were right before it\n({before['f1']:.3f}) and {after['right']} after ({after['f1']:.3f})"
        in card
    )
    assert f"stood at {not_kept['right']} ({not_kept['f1']:.3f};" in card


def test_the_picture_needs_no_network() -> None:
    picture = (ROOT / "benchmarks" / "figures" / "answer.svg").read_text("utf-8")
    assert not re.search(r"url\(|href=|<image|@font-face", picture.replace("url(#", ""))
