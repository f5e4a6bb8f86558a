# The servers that the tests need, on loopback, in a directory of their own. Sourced by .ci/run.
# start_servers DIR starts them, sets postgres_port, mariadb_port and valkey_port, and exports where
# the Redis cluster is; stop_servers stops them.

servers_dir=""

install_servers() {
  local missing=()
  command -v redis-server >/dev/null || missing+=(redis-server)
  command -v mariadbd >/dev/null || missing+=(mariadb-server)
  command -v msgfmt >/dev/null || missing+=(gettext)
  command -v chromium >/dev/null || missing+=(chromium)
  command -v chromedriver >/dev/null || missing+=(chromium-driver)
  [ -n "$(postgres_programs)" ] || missing+=(postgresql)
  if [ "${#missing[@]}" -gt 0 ]; then
    apt-get update -qq
    apt_install "${missing[@]}"
  fi
  # Valkey is not in every release of Debian and Ubuntu; where it is, the Redis engine is tested on it.
  if ! command -v valkey-server >/dev/null && apt-cache show valkey-server >/dev/null 2>&1; then
    apt_install valkey-server
  fi
}

apt_install() {
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@"
}

postgres_programs() {
  ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1
}

free_port() {
  python - <<'PYTHON'
import socket

with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    print(listener.getsockname()[1])
PYTHON
}

# A server that refuses to run as root runs as the user that Debian made for it.
as_user() {
  local user=$1
  shift
  if [ "$(id -u)" -eq 0 ]; then runuser -u "$user" -- "$@"; else "$@"; fi
}

own_dir() {
  mkdir -p "$2"
  if [ "$(id -u)" -eq 0 ]; then chown "$1" "$2"; fi
}

wait_for() {
  for _ in $(seq 100); do
    if "$@" >/dev/null 2>&1; then return; fi
    sleep 0.1
  done
  echo "not there in time: $*" >&2
  return 1
}

start_postgres() {
  local programs dir=$servers_dir/postgres
  programs=$(postgres_programs)
  postgres_port=$(free_port)
  own_dir postgres "$dir"
  as_user postgres "$programs/initdb" --pgdata="$dir/data" --username=dirigible --auth=trust \
    --encoding=UTF8 --no-sync >"$dir.log" 2>&1
  as_user postgres "$programs/pg_ctl" --pgdata="$dir/data" --silent --wait --log="$dir/log" \
    --options="-c listen_addresses=127.0.0.1 -p $postgres_port -c unix_socket_directories=$dir -c fsync=off -c max_connections=200" \
    start
}

start_mariadb() {
  local dir=$servers_dir/mariadb
  mariadb_port=$(free_port)
  own_dir mysql "$dir"
  as_user mysql mariadb-install-db --no-defaults --datadir="$dir/data" --skip-test-db \
    --auth-root-authentication-method=normal >"$dir.log" 2>&1
  as_user mysql mariadbd --no-defaults --datadir="$dir/data" --socket="$dir/socket" \
    --pid-file="$dir/pid" --bind-address=127.0.0.1 --port="$mariadb_port" \
    --skip-log-bin --innodb-flush-log-at-trx-commit=0 >>"$dir.log" 2>&1 &
  wait_for mariadb-admin --no-defaults --socket="$dir/socket" --user=root ping
  mariadb --no-defaults --socket="$dir/socket" --user=root --execute="
    CREATE USER 'dirigible'@'127.0.0.1'; CREATE USER 'dirigible'@'localhost';
    GRANT ALL ON *.* TO 'dirigible'@'127.0.0.1'; GRANT ALL ON *.* TO 'dirigible'@'localhost';"
}

start_one_redis() {
  local port=$1 dir=$servers_dir/redis-$1
  shift
  mkdir -p "$dir"
  "${redis_program:-redis-server}" --bind 127.0.0.1 --port "$port" --dir "$dir" --save "" --daemonize yes \
    --pidfile "$dir/pid" --logfile "$dir/log" "$@" >/dev/null
  wait_for redis-cli -h 127.0.0.1 -p "$port" ping
}

# Sets valkey_port; leaves it empty where there is no Valkey.
start_valkey() {
  valkey_port=""
  command -v valkey-server >/dev/null || return 0
  valkey_port=$(free_port)
  redis_program=valkey-server start_one_redis "$valkey_port"
}

# A node's bus listens ten thousand ports above it, so its own port must be a low one.
start_redis_cluster() {
  local port nodes=()
  for port in 17001 17002 17003; do
    start_one_redis "$port" --cluster-enabled yes --cluster-node-timeout 2000
    nodes+=("127.0.0.1:$port")
  done
  redis-cli --cluster create "${nodes[@]}" --cluster-yes >"$servers_dir/cluster.log"
  wait_for sh -c "redis-cli -p 17001 cluster info | grep -q cluster_state:ok"
  export DIRIGIBLE_TEST_REDIS_CLUSTER_URL="redis+cluster://127.0.0.1:17001"
}

start_servers() {
  servers_dir=$1
  install_servers
  start_postgres
  start_mariadb
  start_redis_cluster
  start_valkey
}

stop_servers() {
  local pidfile
  [ -n "$servers_dir" ] || return 0
  for pidfile in "$servers_dir"/redis-*/pid "$servers_dir"/mariadb/pid; do
    [ -e "$pidfile" ] && kill "$(cat "$pidfile")"
  done
  [ -d "$servers_dir/postgres/data" ] && as_user postgres "$(postgres_programs)/pg_ctl" \
    --pgdata="$servers_dir/postgres/data" --silent --mode=immediate stop
  wait
}
