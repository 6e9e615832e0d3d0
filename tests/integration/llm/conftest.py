"""Tiny real models with random weights and tokenizers made here: a causal one with a chat template, and a T5."""

import pytest

WORDS = [
    "the", "a", "of", "and", "rain", "sky", "blue", "cat", "sat", "mat", "why", "is", "what", "question", "passage",
    "Question", "Passage", "Document", "Query", "Relevant", "relevant", "grade", "Grade", "answer", "system", "user",
    "assistant", "true", "false", "yes", "no", "Yes", "No", *map(str, range(30)), *"ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "[", "]", ">", ":", ".", ",", "?", "<", "/", "-", "(", ")",
]  # fmt: skip
TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|> ' + m['content'] + ' <|end|> ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|> ' }}{% endif %}"
)


def build_tokenizer(directory, template):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<unk>", "</s>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
    vocabulary = {token: i for i, token in enumerate([*special, *dict.fromkeys(WORDS)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    tokenizer.add_special_tokens(special)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="</s>",  # noqa: S106
        additional_special_tokens=special[3:],
    )  # fmt: skip
    if template:
        fast.chat_template = template
    fast.save_pretrained(directory)
    return len(vocabulary)


@pytest.fixture(scope="session")
def causal_dir(tmp_path_factory):
    torch = pytest.importorskip("torch", reason="needs the models extra")
    from transformers import LlamaConfig, LlamaForCausalLM

    directory = tmp_path_factory.mktemp("tiny-causal")
    size = build_tokenizer(directory, TEMPLATE)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=size, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=2048, pad_token_id=0, eos_token_id=2, bos_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def t5_dir(tmp_path_factory):
    torch = pytest.importorskip("torch", reason="needs the models extra")
    from transformers import T5Config, T5ForConditionalGeneration

    directory = tmp_path_factory.mktemp("tiny-t5")
    size = build_tokenizer(directory, "")
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=size, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, pad_token_id=0, eos_token_id=2,
        decoder_start_token_id=0,
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(directory)
    return directory
