# The environment of every shell on a cluster node; set-up makes the first line of ~/.bashrc read it.
# The first line, because Ubuntu's .bashrc returns early in shells that are not interactive, and
# `ssh head sweep status …` is such a shell. Ray's processes, and the work they run, inherit it.

export PATH="$HOME/sweep-venv/bin:$HOME/sweep-uv/bin:$PATH"

# Every call to Ray carries the token that `ray up` copied to ~/.ray/auth_token. Said outright, because
# left unset Ray decides by whether a token file exists, node by node, and nodes that disagree cannot talk.
export RAY_AUTH_MODE=token

# Without these, Ray 2.60 serves its metrics to whoever asks, on all addresses and without a token.
# Two of its servers know no switch, but Ray does without them where their port cannot exist.
export RAY_enable_metrics_collection=0 AUTOSCALER_METRIC_PORT=-1 DASHBOARD_METRIC_PORT=-1

# Otherwise the first TensorFlow process on a GPU takes all its memory, and the second one fails.
export TF_FORCE_GPU_ALLOW_GROWTH=true

# Only the head has this file, and only the head runs a driver and an MLflow server.
if [ -e "$HOME/ray_bootstrap_config.yaml" ]; then
    export MLFLOW_TRACKING_URI=http://127.0.0.1:5000
fi
