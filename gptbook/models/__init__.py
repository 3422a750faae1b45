"""The models that come with the book: small GPTs that have learned Littletown.

Each lies in a folder of its own beside this file: `model.safetensors` and `config.json` as
`gptbook.model` writes them, `tokenizer.json`, and a card, `README.md`, that says how it was
trained and how good it is. `make model` trains the first two anew and writes all of it;
`make assistant` fine-tunes the third from the first. A fourth folder, `littletown-eyes`, holds a
model that sees: `make eyes` trains it, and `gptbook.multimodal.load` reads it.
"""

from importlib.resources import as_file, files

from gptbook import model as gpt
from gptbook.model import GPT
from gptbook.tokenizer import Tokenizer

NAMES = ("littletown", "littletown-gpt2", "littletown-assistant")


def load(name: str = "littletown") -> tuple[GPT, Tokenizer]:
    """Load one of the book's models, in float32 and ready to use, with its tokenizer.

    "littletown" is of the modern composition: rotary positions, RMSNorm, SwiGLU. "littletown-gpt2"
    is of GPT-2's own: learned positions, LayerNorm, GELU; it learned as much as it could in the
    same time, which is less. "littletown-assistant" is the first, fine-tuned to do what it is asked
    in a chat; see `gptbook.finetuning.reply`.

    Raises:
        ValueError: If there is no model of that name, or its files are damaged.

    >>> model, tokenizer = load("littletown")
    >>> model.vocab_size == tokenizer.vocab_size
    True
    """
    if name not in NAMES:
        raise ValueError(f"no model is called {name!r}; the book has {', '.join(NAMES)}")
    with as_file(files(__name__) / name) as folder:
        return gpt.load(folder).eval(), Tokenizer.load(folder / "tokenizer.json")
