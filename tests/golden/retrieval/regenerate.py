"""Make the golden answers of `/retrieval` anew, from the requests beside them.

    python tests/golden/retrieval/regenerate.py

Each file holds a request, with the path, as Dify sends it, and the status and document of the answer. Look at the
difference before it is committed: it is what clients would see.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[2]))

if __name__ == "__main__":
    import tempfile

    from tests.integration.serve.conftest import reading_server

    with tempfile.TemporaryDirectory() as folder, reading_server(Path(folder) / "reading") as made:
        for file in sorted(HERE.glob("*.json")):
            document = json.loads(file.read_text(encoding="utf-8"))
            answer = made.client.post("/retrieval", json=document["request"])
            document |= {"status": answer.status_code, "response": answer.json()}
            file.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
