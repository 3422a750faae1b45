"""Run every benchmark and write RESULTS.md: `make bench`, on a quiet machine, about half an hour.

python -m benchmarks                # all of them; writes benchmarks/RESULTS.md
python -m benchmarks decode         # some; only prints
"""

import argparse

import torch
from transformers.utils import logging

from benchmarks import decode, harness, littletown, loss_memory, tokenizer, train_step

TOPICS = {
    "train_step": train_step,
    "loss_memory": loss_memory,
    "decode": decode,
    "littletown": littletown,
}


def main() -> None:
    """Run the topics that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("topics", nargs="*", help=f"some of {', '.join([*TOPICS, 'tokenizer'])}")
    asked = parser.parse_args().topics
    if unknown := set(asked) - {*TOPICS, "tokenizer"}:
        parser.error(f"there is no topic {', '.join(sorted(unknown))}")
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    sections, loads = [], []
    for name, topic in TOPICS.items():
        if not asked or name in asked:
            loads.append(harness.warn_if_busy())
            print(f"\n== {topic.TITLE} ==", flush=True)
            sections.append((topic.TITLE, topic.run()))
    if not asked or "tokenizer" in asked:
        print("\n== tokenizer ==", flush=True)
        tokenizer.main()
    if not asked:
        harness.RESULTS.write_text(harness.report(sections, loads), encoding="utf-8")
        print(f"\nwritten: {harness.RESULTS}")


if __name__ == "__main__":
    main()
