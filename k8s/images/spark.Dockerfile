# Spark's driver and executors for build_cf, with the jars of Delta and s3a. From the root of the repository:
#   docker build -f k8s/images/spark.Dockerfile -t mmsrarec-spark:0.1.0 .
FROM docker.io/apache/spark:4.2.0-scala2.13-java17-ubuntu AS spark

# Spark itself is the one that pyspark brings along; the official image gives the Java and the entry point.
FROM docker.io/library/python:3.11.13-slim-bookworm
COPY --from=spark /opt/java/openjdk /opt/java/openjdk
COPY --from=spark /opt/entrypoint.sh /opt/entrypoint.sh
ENV JAVA_HOME=/opt/java/openjdk SPARK_HOME=/opt/spark PATH=/opt/java/openjdk/bin:$PATH \
    PYSPARK_PYTHON=/usr/local/bin/python3 PYSPARK_DRIVER_PYTHON=/usr/local/bin/python3 PYTHONUNBUFFERED=1
RUN apt-get update \
    && apt-get install --yes --no-install-recommends procps tini \
    && rm -rf /var/lib/apt/lists/* \
    && pip install --no-cache-dir uv==0.13.8

WORKDIR /opt/mmsrarec
COPY pyproject.toml README.md LICENSE ./
COPY mmsrarec mmsrarec
COPY jobs jobs

# What build_cf imports, without the engines, in the versions of pyproject.toml.
RUN python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
    | sed 's/\[.*\]//' > /tmp/versions.txt \
    && uv pip install --system --no-cache --compile-bytecode --constraint /tmp/versions.txt \
        pyspark delta-spark deltalake pyarrow pandas numpy pydantic pyyaml typer rich psutil prometheus_client \
    && uv pip install --system --no-cache --compile-bytecode --no-deps .

RUN ln -s "$(python -c 'import pyspark; print(pyspark.__path__[0])')" /opt/spark \
    && mkdir /opt/spark/work-dir \
    && python -m mmsrarec.storage.jars --s3a \
    && rm -rf /tmp/versions.txt

RUN useradd --uid 185 --create-home spark
USER 185:185
WORKDIR /opt/spark/work-dir
ENTRYPOINT ["/opt/entrypoint.sh"]
