"""comfy-test, which node authors check their packs with: no error at import is in the log of a real server."""

import os
import shutil
import subprocess
import sys


def test_registration_level_passes(server, tmp_path):
    (tmp_path / "comfy-test.toml").write_text('[test]\nlevels = ["registration"]\n')
    logs = tmp_path / "logs"
    logs.mkdir()
    shutil.copy(server.log, logs / "server.log")  # where it looks for errors of the import
    command = [sys.executable, "-m", "comfy_test", "run", "--server-url", server.url]
    result = subprocess.run(
        [*command, "--config", str(tmp_path / "comfy-test.toml")],
        cwd=server.base / "custom_nodes" / "asuka-inpaint",
        env={**os.environ, "COMFY_TEST_LOGS_DIR": str(logs), "HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "[REGISTRATION] PASSED" in result.stdout
    assert "ASUKA_AlignConditioning" in server.get("/object_info")  # nor does it count whose nodes are there
