"""The tutorial's own cells on a real cluster without Katib and KServe: image, Job, study, endpoint, answer."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from kaptain_magics.core.names import new_hex
from kaptain_magics.targets.kubernetes.api.client import Cluster
from tests.seaweed import SeaweedFS

pytestmark = [pytest.mark.cluster, pytest.mark.docker, pytest.mark.s3]
TUTORIAL = Path(__file__).parents[3] / "notebooks" / "tutorial.ipynb"
REGISTRY = "127.0.0.1:5000"
ASK = """
from kaptain_magics.model import Workspace

print("answer", model.predict([data[image_index]]))
print("skipped", model.build(verbose=True))
print("left", Workspace().clean())
model.undeploy()
"""


@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore")  # what Jupyter's own libraries say is not ours
def test_the_tutorials_cells(
    home: Path,
    tmp_path: Path,
    kubeconfig: Path,
    namespace: Cluster,
    docker_host: str,
    cluster_image: str,
    pod_storage: SeaweedFS,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = {
        "KAPTAIN_TARGET": "kubernetes",
        "KAPTAIN_KUBECONFIG": str(kubeconfig),
        "KAPTAIN_NAMESPACE": namespace.namespace,
        "KAPTAIN_STORAGE_URI": "s3://kaptain/models",
        "DOCKER_HOST": docker_host,
        "DOCKER_CONFIG": str(kubeconfig.parent / "docker-config"),
        **pod_storage.env,
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(TUTORIAL, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    (places,) = [cell for cell in cells if cell.source.startswith("base_image =")]
    places.source = (
        f"base_image = {cluster_image!r}\nimage_name = '{REGISTRY}/kaptain/tutorial-{new_hex(8)}:mnist-sklearn-sdk'\n"
        "requirements = 'requirements.txt'"
    )
    first_own = next(i for i, cell in enumerate(cells) if "Workspace().endpoint" in cell.source)
    notebook.cells = [*cells[:first_own], nbformat.v4.new_code_cell(ASK)]
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    try:
        client.execute()
    finally:
        text = "\n".join(
            output.get("text", "") or output.get("data", {}).get("text/plain", "")
            for cell in notebook.cells
            for output in cell.get("outputs", ())
        )
        print(text)  # shown where the test fails
    assert "Image build completed successfully. Image pushed: " in text
    assert "Model accuracy: 0.9" in text
    assert "Skipping image build for the model - the image '" in text
    assert re.search(r"Progress: 100%.*12/12", text)
    assert "Model tuning completed, final status: Succeeded" in text
    assert "Model dev/mnist deployed successfully. Cluster URL: http://dev-mnist." in text
    assert "answer [7]" in text
    assert "skipped True" in text
