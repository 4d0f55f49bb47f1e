# Two images of the same service. The default one also trains and indexes, on a CPU or on GPUs: torch and faiss bring
# their own CUDA libraries, the host brings the driver. `docker build --target serve` makes a small one without torch, which
# serves on a CPU.
FROM python:3.11-slim-bookworm AS venv
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
RUN python -m venv /opt/fc7
WORKDIR /src
# Packages first, from two files that seldom change: editing code does not install torch again. Of fc7 itself the
# installation holds the version alone; its code is in /app.
COPY pyproject.toml constraints.txt ./
RUN touch README.md LICENSE

FROM venv AS packages
RUN /opt/fc7/bin/pip install --constraint constraints.txt .

FROM venv AS serve-packages
# --group needs a newer pip than the base image's.
RUN /opt/fc7/bin/pip install --constraint constraints.txt --upgrade pip \
 && /opt/fc7/bin/pip install --constraint constraints.txt --group serve \
 && /opt/fc7/bin/pip install --no-deps .

FROM scratch AS code
COPY files.py /app/
COPY model /app/model
COPY index /app/index
COPY service /app/service

FROM python:3.11-slim-bookworm AS base
ENV PATH=/opt/fc7/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/app \
    MPLCONFIGDIR=/tmp/matplotlib XDG_CACHE_HOME=/var/lib/fc7/cache
RUN useradd --create-home --uid 1000 fc7 && install -d -o fc7 -g fc7 /var/lib/fc7
WORKDIR /app
USER 1000:1000
VOLUME /var/lib/fc7
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=6 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
CMD ["python", "scripts/serve.py", "--host", "0.0.0.0", "--bundle", "/var/lib/fc7/bundles/demo"]

FROM base AS serve
COPY --from=serve-packages /opt/fc7 /opt/fc7
COPY --from=code /app /app
COPY scripts/__init__.py scripts/command.py scripts/make_key.py scripts/serve.py /app/scripts/

FROM base
COPY --from=packages /opt/fc7 /opt/fc7
COPY --from=code /app /app
COPY scripts /app/scripts
