"""The parts of Littletown; `gptbook.world` puts them together."""
