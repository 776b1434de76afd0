"""Tables about conversion and quantization."""

from __future__ import annotations

from benchmarks.page_tables.sources import gb, gib, provenance, results, table


def convert() -> str:
    """Return the table of the conversion's steps, with the time, memory and written bytes of each step."""
    facts = results("convert")
    names = {"ecellm-lite": "**one pass, `ecellm-lite convert`**"}
    rows = [
        (names.get(step, step), f"{one['seconds']:.0f}", gib(one["peak_memory"]), gb(one["written"]))
        for step, one in facts["steps"].items()
    ]
    written = sum(one["written"] for step, one in facts["steps"].items() if step != "ecellm-lite")
    rows.append(("the three together", f"{facts['chain_seconds']:.0f}", gib(facts["chain_peak_memory"]), gb(written)))
    large = results("convert_large")["steps"]["ecellm-lite"]
    return (
        f"{table(('step', 'seconds', 'peak memory', 'written'), rows)}\n\n{facts['times_faster']:.1f} times as fast. "
        f"The shape of eCeLLM-L (26 GB) took {large['seconds']:.0f} s and {gib(large['peak_memory'])} "
        f"{provenance('convert')}.{_newer_shapes()}"
    )


def _newer_shapes() -> str:
    text = ""
    for name in ("convert_qwen3", "convert_llama3"):
        facts = results(name)
        ours = facts["steps"]["ecellm-lite"]
        text += (
            f" {facts['shape']}'s shape with {facts['layers']} layers ({gb(facts['checkpoint_bytes'])}): "
            f"{ours['seconds']:.0f} s and {gib(ours['peak_memory'])}"
        )
        if "times_faster" in facts:
            text += f", {facts['times_faster']:.1f} times as fast as the three steps"
        text += f" {provenance(name)}."
    return text


def exactness() -> str:
    """Return sentences that compare the logits of converted files with the logits of the original checkpoints."""
    facts = results("exactness")
    cases = facts["cases"]
    divergence, worst = max((each["mean_kl"], name) for name, each in cases.items())
    others = max(each["other_likeliest_token"] for each in cases.values())
    kinds = [name for name in cases if "adapter" not in name]
    return (
        f"Small random checkpoints of {len(kinds)} kinds ({', '.join(kinds)}), each alone and with an adapter, "
        f"{facts['prompts']} prompts, F32 files beside transformers and peft (not merged): a mean KL divergence of at "
        f"most {divergence:.1e} nats ({worst}), and another likeliest token at {others} of "
        f"{cases[worst]['places']:,} places at most, where two tokens are almost equally likely "
        f"{provenance('exactness')}."
    )


def quantize() -> str:
    """Return a table of the kernel variants' speed relative to ggml, for each quantization type."""
    types = results("quantize")["types"]
    ways = [way for way in next(iter(types.values()))["times_ggml"] if way != "ggml"]
    rows = [
        (name, f"{one['million_weights_per_second']['ggml']:.1f}", *(f"{one['times_ggml'][way]:.1f}" for way in ways))
        for name, one in types.items()
    ]
    merged = next(share for way, share in results("quantize")["merge"]["times_plain"].items() if way != "plain")
    head = ("type", "ggml, million weights/s", *(f"times, {way}" for way in ways))
    return (
        f"{table(head, rows)}\n\nMerging an adapter of rank 16 costs {1 - merged:.0%} of throughput "
        f"{provenance('quantize')}."
    )
