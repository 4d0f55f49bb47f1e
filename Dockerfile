# One image for training, indexing and serving; torch and faiss bring their own CUDA libraries, the host brings the driver.
FROM python:3.11-slim-bookworm AS packages
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
RUN python -m venv /opt/fc7
WORKDIR /src
# Packages first, from two files that seldom change: editing code does not install torch again. Of fc7 itself this keeps
# the version alone; its code is in /app.
COPY pyproject.toml constraints.txt ./
RUN mkdir -p model index service scripts \
 && touch README.md LICENSE files.py model/__init__.py index/__init__.py service/__init__.py scripts/__init__.py \
 && /opt/fc7/bin/pip install --constraint constraints.txt . \
 && for ours in files.py model index service scripts; do rm -r "/opt/fc7/lib/python3.11/site-packages/$ours"; done

FROM python:3.11-slim-bookworm
ENV PATH=/opt/fc7/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/app \
    MPLCONFIGDIR=/tmp/matplotlib XDG_CACHE_HOME=/var/lib/fc7/cache
RUN useradd --create-home --uid 1000 fc7 && install -d -o fc7 -g fc7 /var/lib/fc7
COPY --from=packages /opt/fc7 /opt/fc7
COPY files.py /app/
COPY model /app/model
COPY index /app/index
COPY service /app/service
COPY scripts /app/scripts
WORKDIR /app
USER 1000:1000
VOLUME /var/lib/fc7
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=6 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
CMD ["python", "scripts/serve.py", "--host", "0.0.0.0", "--bundle", "/var/lib/fc7/bundles/demo"]
