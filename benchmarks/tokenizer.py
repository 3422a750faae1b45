"""How fast the tokenizer trains and encodes, beside tiktoken, on one thread.

    python benchmarks/tokenizer.py

Each time is the best of several runs, in seconds of processor time of this process: other work on
the machine then disturbs it least. The text is the English that ships with Python.
"""

import math
import platform
import time
from collections.abc import Callable

import tiktoken

from gptbook.data import python_english
from gptbook.tokenizer import Tokenizer

RUNS = 3
VOCAB_SIZES = (2_000, 4_000)
SHARES = (0.125, 0.25, 0.5, 1.0)


def best_seconds(work: Callable[[], object], runs: int = RUNS) -> float:
    """Time `work` a few times and keep the best."""
    times = []
    for _ in range(runs):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    """Print the table."""
    text = python_english()
    megabytes = len(text.encode()) / 1e6
    print(f"Python {platform.python_version()}, tiktoken {tiktoken.__version__}")
    print(f"text: {megabytes:.2f} MB")
    print("\ntraining")
    for vocab_size in VOCAB_SIZES:
        seconds = best_seconds(lambda size=vocab_size: Tokenizer.train(text, size))
        print(f"  vocabulary {vocab_size:>5}: {seconds:5.2f} s")
    print("\ntraining 2,000 on growing shares of the text")
    shares = []
    for share in SHARES:
        part = text[: int(share * len(text))]
        shares.append(best_seconds(lambda part=part: Tokenizer.train(part, 2_000)))
        print(f"  {share * megabytes:5.2f} MB: {shares[-1]:5.2f} s")
    slope = math.log(shares[-1] / shares[0]) / math.log(SHARES[-1] / SHARES[0])
    print(f"  time grows as size to the power {slope:.2f}; 1 is linear")
    print("\nencoding")
    tokenizer = Tokenizer.train(text, 2_000)
    fields = ([tokenizer.token_bytes(i) for i in range(2_000)], tokenizer.pattern)
    cold = min(_cold(*fields, text) for _ in range(RUNS))
    warm = best_seconds(lambda: tokenizer.encode_ordinary(text))
    theirs = tokenizer.to_tiktoken()
    rust = best_seconds(lambda: theirs.encode_ordinary(text))
    assert tokenizer.encode_ordinary(text) == theirs.encode_ordinary(text)
    for name, seconds in (("ours, cold", cold), ("ours, warm", warm), ("tiktoken", rust)):
        print(f"  {name:<10} {megabytes / seconds:6.2f} MB/s")
    for length in (25_000, 50_000, 100_000):
        seconds = best_seconds(lambda length=length: tokenizer.encode_ordinary("a" * length))
        print(f"  one word of {length:>7,} letters: {seconds:6.3f} s")


def _cold(tokens: list[bytes], pattern: str, text: str) -> float:
    """Time the first encoding by a new tokenizer, whose word cache is empty."""
    tokenizer = Tokenizer(tokens, pattern)
    return best_seconds(lambda: tokenizer.encode_ordinary(text), runs=1)


if __name__ == "__main__":
    main()
