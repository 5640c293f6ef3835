"""Servers for tests: a real one that serves a tiny model, and a small one that limits itself on purpose."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def make_tiny_llama(folder: Path) -> Path:
    """A Llama of some 30,000 random parameters with a trained byte-level BPE tokenizer and a chat template."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    specials = ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        ["a still room is where a house makes its own spirits"] * 4, vocab_size=300, special_tokens=specials
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer, eos_token="<|end|>", pad_token="<|end|>", chat_template=CHAT_TEMPLATE
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        initializer_range=0.5,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@contextmanager
def transformers_server(folder: Path) -> Iterator[str]:
    """`transformers serve` over a local model, without network; gives the address of its API."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub"), "OMP_NUM_THREADS": "1"}
    with (folder / "server.log").open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process, folder / "server.log")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(address: str, process: subprocess.Popen, output: Path, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urlopen(address, timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"the server did not start:\n{output.read_text()[-3000:]}")


@dataclass
class Limits:
    """What the limiting server does to its clients.

    first: troubles that each distinct prompt meets before it is answered: a status code, ``hang``, ``reset`` (the
        connection is dropped), ``malformed`` (no JSON), ``cut`` (half of the JSON), ``shapeless`` (other JSON).
    retry_after: header of every 429 and 503.
    refuse: a prompt with this text gets 400.
    key: the key that is wanted; a wrong one is repeated in the error, as careless servers do.
    models: what it lists; None for a server without that list.
    log_probs: ``given``, ``ignored`` or ``refused``.
    ceiling: most alternatives a token; above it 400, or silently cut where ``cuts``.
    samples: whether answers at a temperature differ. counts: whether answers carry token counts.
    delay: seconds before each answer.
    hang: seconds that a ``hang`` lasts.
    say: prompt -> the answer's text and its finish reason, in place of an echo.
    holds_after: so many are answered; the others wait, open, until the server's ``release`` is set.
    stops_after: so many are answered; then every connection is dropped.
    """

    first: Sequence[Any] = ()
    retry_after: str | None = None
    refuse: str | None = None
    key: str | None = None
    models: list[str] | None = field(default_factory=lambda: ["tiny"])
    log_probs: str = "given"
    ceiling: int = 20
    cuts: bool = False
    samples: bool = True
    counts: bool = True
    delay: float = 0.0
    hang: float = 1.0
    say: Callable[[str], tuple[str, str]] | None = None
    holds_after: int | None = None
    stops_after: int | None = None


class LimitedServer:
    """A server that limits itself, and remembers every request as (prompt, seconds, body) and how many were open."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.requests, self.answered = limits, [], []
        self.open = self.most_open = 0
        self.lock, self.release, self.admitted = threading.Lock(), threading.Event(), 0
        handler = type("Handler", (_Handler,), {"owner": self})
        self._http = _QuietServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.release.set()
        self._http.shutdown()
        self._http.server_close()

    def prompts(self) -> list[str]:
        with self.lock:
            return [prompt for prompt, _, _ in self.requests]


@contextmanager
def limited_server(**limits: Any) -> Iterator[LimitedServer]:
    server = LimitedServer(Limits(**limits))
    try:
        yield server
    finally:
        server.close()


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up, or is killed, is what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    owner: LimitedServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        models = self.owner.limits.models
        if self.path != "/v1/models" or models is None:
            return self.reply(404, b"<html>nothing here</html>")
        return self.reply(200, _json({"object": "list", "data": [{"id": name, "object": "model"} for name in models]}))

    def do_POST(self) -> None:
        owner, limits = self.owner, self.owner.limits
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        prompt = body["messages"][-1]["content"]
        with owner.lock:
            met = sum(prompt == other for other, _, _ in owner.requests)
            owner.requests.append((prompt, time.monotonic(), body))
            owner.open += 1
            owner.most_open = max(owner.most_open, owner.open)
        try:
            if met < len(limits.first):
                self.trouble(limits.first[met])
            else:
                self.answer(body, prompt, met)
        finally:
            with owner.lock:
                owner.open -= 1

    def trouble(self, kind: Any) -> None:
        if kind == "reset":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif kind == "hang":
            time.sleep(self.owner.limits.hang)
            self.close_connection = True
        elif kind == "malformed":
            self.reply(200, b"the proxy is sorry")
        elif kind == "cut":
            self.reply(200, _json(_completion({"messages": [{"content": "x"}]}, "half", self.owner.limits))[:40])
        elif kind == "shapeless":
            self.reply(200, _json({"error": {"message": "upstream is away"}}))
        else:
            self.error(kind, "too much at once")

    def answer(self, body: dict[str, Any], prompt: str, met: int) -> None:
        limits = self.owner.limits
        sent = self.headers.get("authorization", "").removeprefix("Bearer ")
        if limits.key is not None and sent != limits.key:
            return self.error(401, f"the key {sent} is wrong")
        if self.path != "/v1/chat/completions" or body["model"] != "tiny":
            return self.error(404, f"no model {body['model']}")
        if limits.refuse is not None and limits.refuse in prompt:
            return self.error(400, f"the prompt is too long (key {sent})")
        if body.get("logprobs") and limits.log_probs == "refused":
            return self.error(400, "logprobs is not supported")
        if body.get("top_logprobs", 0) > limits.ceiling and limits.log_probs == "given" and not limits.cuts:
            return self.error(400, f"top_logprobs must be at most {limits.ceiling}")
        with self.owner.lock:
            self.owner.admitted += 1
            admitted = self.owner.admitted
        if limits.stops_after is not None and admitted > limits.stops_after:
            return self.trouble("reset")
        if limits.holds_after is not None and admitted > limits.holds_after:
            self.owner.release.wait(60)
        time.sleep(limits.delay)
        varied = f" {met}" if limits.samples and body.get("temperature") else ""
        with self.owner.lock:
            self.owner.answered.append(prompt)
        text, end = limits.say(prompt) if limits.say else (f"you said {prompt}{varied}", "stop")
        return self.reply(200, _json(_completion(body, text, limits, end)))

    def error(self, status: int, message: str) -> None:
        self.reply(status, _json({"error": {"message": message, "type": "limit"}}))

    def reply(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        if status in (429, 503) and self.owner.limits.retry_after:
            self.send_header("retry-after", self.owner.limits.retry_after)
        self.end_headers()
        self.wfile.write(content)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _completion(body: dict[str, Any], text: str, limits: Limits, end: str = "stop") -> dict[str, Any]:
    """A completion of ``text``, a token a word; the i-th alternative of a token has the log-prob -(i + 1) / 2."""
    choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": end}
    words = text.split()
    if body.get("logprobs") and limits.log_probs == "given":
        number = min(body.get("top_logprobs", 0), limits.ceiling)
        choice["logprobs"] = {
            "content": [
                {
                    "token": word,
                    "logprob": -0.5,
                    "bytes": list(word.encode()),
                    "top_logprobs": [{"token": f"t{i}", "logprob": -(i + 1) / 2, "bytes": None} for i in range(number)],
                }
                for word in words
            ]
        }
    counts = {"prompt_tokens": len(body["messages"][-1]["content"].split()), "completion_tokens": len(words)}
    usage = {"usage": counts} if limits.counts else {}
    return {"id": "c", "object": "chat.completion", "created": 0, "model": "tiny", "choices": [choice]} | usage


class CountingProxy:
    """Stands in front of a real server and counts: the prompt of each request, and of each answer that it passed on."""

    def __init__(self, url: str) -> None:
        self.asked, self.answered = list[str](), list[str]()
        self.open, self.lock = 0, threading.Lock()
        handler = type("Passing", (_Passing,), {"owner": self, "target": url.removesuffix("/v1")})
        self._http = _QuietServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@contextmanager
def counting_proxy(url: str) -> Iterator[CountingProxy]:
    proxy = CountingProxy(url)
    try:
        yield proxy
    finally:
        proxy.close()


class _Passing(BaseHTTPRequestHandler):
    owner: CountingProxy
    target: str
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        prompt = json.loads(body)["messages"][-1]["content"]
        with self.owner.lock:
            self.owner.asked.append(prompt)
            self.owner.open += 1
        try:
            request = Request(self.target + self.path, body, {"content-type": "application/json"})
            try:
                with urlopen(request, timeout=120) as response:
                    status, content = response.status, response.read()
            except HTTPError as error:
                status, content = error.code, error.read()
            if status == 200:
                with self.owner.lock:
                    self.owner.answered.append(prompt)
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        finally:
            with self.owner.lock:
                self.owner.open -= 1
