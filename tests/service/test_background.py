"""No thread of a matrix product goes on when the product is there: it would take the cores from network and search."""

import pytest
from threadpoolctl import threadpool_info


@pytest.mark.usefixtures("engine")
def test_a_loaded_engine_leaves_no_thread_of_openblas_busy() -> None:
    libraries = [library for library in threadpool_info() if library["user_api"] == "blas"]
    assert libraries
    assert {library["num_threads"] for library in libraries} == {1}
