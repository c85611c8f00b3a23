"""Audio up and down."""

import io

from openai import OpenAI

client = OpenAI(max_retries=0)

for create in client.audio.transcriptions.create, client.audio.translations.create:
    sound = io.BytesIO(b"\xf7" * 3_000_000)
    sound.name = "speech.wav"
    assert create(model="audio", file=sound).text == "3000000 bytes of audio"

spoken = client.audio.transcriptions.create(model="audio", file=("a.wav", b"RIFF", "audio/wav"), response_format="text")
assert spoken == "spoken words\n", spoken

assert client.audio.speech.create(model="audio", voice="alloy", input="hi").content == b"\xff" * 1000
with client.audio.speech.with_streaming_response.create(model="audio", voice="alloy", input="hi") as answer:
    assert sum(len(piece) for piece in answer.iter_bytes()) == 1000
