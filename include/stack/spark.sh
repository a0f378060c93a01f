#!/bin/sh
# Spark's standalone master and workers. They need the secret of the cluster in _SPARK_AUTH_SECRET, and give it to their executors.
set -eu
role=$1
conf=/tmp/spark.conf
cat >"$conf" <<END
spark.authenticate true
spark.network.crypto.enabled true
spark.worker.cleanup.enabled true
spark.ui.reverseProxy true
END
export SPARK_LOCAL_DIRS=/opt/churn/var/tmp SPARK_DAEMON_MEMORY="${SPARK_DAEMON_MEMORY:-256m}" SPARK_NO_DAEMONIZE=1 SPARK_DAEMON_JAVA_OPTS="-Djava.io.tmpdir=$TMPDIR"
class=/opt/airflow/spark/pyspark/bin/spark-class
[ -x "$class" ] || { echo "This image has no Spark. Build it with: make up SPARK=1" >&2; exit 1; }
case "$role" in
  master) exec "$class" org.apache.spark.deploy.master.Master --host "$(hostname)" --port 7077 --webui-port 8080 --properties-file "$conf" ;;
  worker)
    exec "$class" org.apache.spark.deploy.worker.Worker --webui-port 8081 --properties-file "$conf" \
      --cores "$SPARK_WORKER_CORES" --memory "$SPARK_WORKER_HEAP" --work-dir /opt/churn/var/spark spark://spark-master:7077
    ;;
  *) echo "Usage: spark.sh master|worker" >&2; exit 1 ;;
esac
