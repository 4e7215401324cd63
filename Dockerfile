FROM python:3.11-slim
WORKDIR /armlift
# The CPU build of PyTorch is gigabytes smaller.
RUN pip install --no-cache-dir 'torch>=2.6' --index-url https://download.pytorch.org/whl/cpu
COPY pyproject.toml README.md ./
COPY platform platform
COPY arms arms
COPY pipelines pipelines
COPY dashboards dashboards
COPY migrations migrations
RUN pip install --no-cache-dir '.[postgresql]'
ENTRYPOINT ["armlift"]
