"""A server nobody here wrote: `transformers serve` with a tiny model, asked over HTTP and compared with the same model
in this process."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from thresher.errors import ModelError
from thresher.llm.budget import Budget
from thresher.llm.local import TransformersModel
from thresher.llm.model import Message, Request
from thresher.llm.openai_server import OpenAIServer
from thresher.llm.tokens import load_tokens
from thresher.records import Hit
from thresher.rerank.model_judge import ModelJudge
from thresher.rerank.reranker import Reranker

pytestmark = [pytest.mark.models, pytest.mark.slow]

HITS = [Hit(f"d{i}", float(-i), i + 1, text=text) for i, text in enumerate(("the cat sat", "blue sky", "rain"))]
ANSWER = "[2] > [3] > [1]"


def single_minded(causal_dir):
    """A model that answers every prompt with `ANSWER`: a token leads to the next by a table, not by training."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(causal_dir)
    tokenizer.add_tokens([ANSWER])
    size = len(tokenizer)
    config = LlamaConfig(
        vocab_size=size, hidden_size=256, intermediate_size=8, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=2048, pad_token_id=0, eos_token_id=2, bos_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    answer, start = tokenizer.convert_tokens_to_ids([ANSWER, "<|assistant|>"])
    with torch.no_grad():
        for layer in model.model.layers:  # what is read goes straight to the output
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(size, 256))
        model.lm_head.weight.zero_()
        model.lm_head.weight[tokenizer.eos_token_id] = 0.1
        model.lm_head.weight[answer, start] = 1.0
    directory = causal_dir.parent / "single-minded"
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def served(causal_dir):
    """The address of the running server, and the directories of two models it is to serve."""
    pytest.importorskip("uvicorn", reason="needs the serve extra")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).parent / "transformers", "serve", "--port", str(port), "--device", "cpu"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        directory = single_minded(causal_dir)  # while the server starts
        deadline = time.monotonic() + 180
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"transformers serve did not come up (exit code {process.poll()})")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1", directory, causal_dir
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def remote(served):
    url, directory, _ = served
    model = OpenAIServer(str(directory), url, tokens=load_tokens(directory), connections=2)
    yield model
    model.close()


def test_it_reranks_over_http(remote):
    result = Reranker(ModelJudge(remote), "sliding:window=3,stride=1", concurrency=2).rank("why is rain", HITS)
    assert [hit.docno for hit in result] == ["d1", "d2", "d0"]
    assert result.complete
    assert result.usage.calls == 1
    assert result.usage.unconfirmed_calls == 0  # the server says what it used
    assert result.usage.prompt_tokens > 50
    longer = [*HITS, *(Hit(f"e{i}", -9.0, 4 + i, text=f"cat {i}") for i in range(5))]
    short = Reranker(ModelJudge(remote), "sliding:window=3,stride=1", budget=Budget(calls=2)).rank("why", longer)
    assert (short.usage.calls, short.stopped, short.complete) == (2, "calls", False)


def test_it_answers_as_the_same_model_in_this_process(served):
    """Random weights: text and token counts agree, through the chat template of both."""
    import asyncio

    url, _, random_dir = served
    remote = OpenAIServer(str(random_dir), url, tokens=load_tokens(random_dir))
    local = TransformersModel(random_dir)
    request = Request((Message("system", "the cat"), Message("user", "why is the sky blue ?")), max_tokens=12)

    async def both():
        (far,), (near,) = await remote.complete([request]), await local.complete([request])
        await remote.aclose()
        return far, near

    far, near = asyncio.run(both())
    assert far.text.split() == near.text.split()
    assert far.usage.prompt_tokens == near.usage.prompt_tokens == local.prompt_bound(request)
    assert remote.prompt_bound(request) >= far.usage.prompt_tokens
    local.close()


def test_what_it_does_not_offer_is_an_error_that_says_so(remote):
    with pytest.raises(ModelError, match="no log-probabilities"):
        Reranker(ModelJudge(remote), "pointwise").rank("why", HITS)
