#!/usr/bin/env bash
# Installs, updates or removes the cognitive memory as a systemd service: see `install.sh --help`.
#
# The script first checks everything and reports all problems together. Then it changes images and secrets, and the units
# last. If the new units do not start, the previous ones are restored.
set -euo pipefail

readonly SERVICE=cognitive-memory-mcp
readonly DATABASE=cognitive-memory-postgres
readonly LOCAL_IMAGE=localhost/cognitive-memory-mcp:latest
readonly PREVIOUS_IMAGE=localhost/cognitive-memory-mcp:previous
readonly MODEL_LABEL=io.cognitive-memory.model
readonly NEEDS_PODMAN=5.4 NEEDS_SYSTEMD=250
# sysexits.h: 64 wrong usage, 69 a requirement is missing, 70 a step failed, 78 the units are invalid.
readonly EX_USAGE=64 EX_UNAVAILABLE=69 EX_SOFTWARE=70 EX_CONFIG=78

here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
checkout=$(dirname "$here")

usage() {
    cat <<'TEXT'
Usage: quadlet/install.sh [OPTIONS]

Installs or updates the memory service, starts it, waits until it is ready, and
prints the configuration for MCP clients. Running it again is safe.

  --user              for you, rootless; runs without login (default)
  --system            for the machine; needs root
  --embedded          one container with a database file
  --postgres          two containers, with PostgreSQL (default)
  --image REF         an image from a registry instead of a local build
  --postgres-image REF  another PostgreSQL image (17, with pgvector)
  --build             rebuild the local image, e.g. after `git pull`
  --with-model        rebuild it with the embedding model (an image of 88 MB),
                      for recall by meaning; --without-model: without it
  --with-model-multilingual  with a model for some 100 languages (152 MB)
  --port N            publish another port on 127.0.0.1 (default 8765)
  --no-backup         no daily backup (PostgreSQL only); --backup: daily backup
  --no-start          install, but do not start
  --dry-run           check everything, show what would be done, change nothing
  --uninstall         stop and remove the units; keep data, secrets and images
  --purge             with --uninstall: delete data, backups and secrets too
  --yes               do not ask for confirmation (of --purge)
  -h, --help          print this text

The next run remembers image, port, backup and kind of database.
TEXT
}

# ---- output ---------------------------------------------------------------------------------------------------------

bold='' dim='' red='' green='' yellow='' plain='' clear=''
if [[ -t 1 && -z ${NO_COLOR:-} && ${TERM:-dumb} != dumb ]]; then
    bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' yellow=$'\e[33m' plain=$'\e[0m' clear=$'\r\e[K'
fi

heading() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
ok() { printf '  %sok%s %s\n' "$green" "$plain" "$*"; }
note() { printf '  %s!%s  %s\n' "$yellow" "$plain" "$*"; }
item() { printf '  %s-%s  %s\n' "$dim" "$plain" "$*"; }
detail() { sed "s/^/      $dim/; s/\$/$plain/"; }

problems=0
problem_code=$EX_UNAVAILABLE
problem() { # DESCRIPTION REMEDY...
    printf '  %sXX %s%s\n' "$red" "$1" "$plain"
    printf '      %s\n' "${@:2}"
    problems=$((problems + 1))
}

die() { printf '\n%s%s%s\n' "$red" "$2" "$plain" >&2; exit "$1"; } # CODE MESSAGE
wrong_usage() { echo "install.sh: $*" >&2; exit $EX_USAGE; }

# Runs a command and shows its latest line of output, on a terminal in place, elsewhere every 30 s.
progress() { # LABEL COMMAND...
    local label=$1 log=$tmp/step.log
    shift
    if "$@" 2>&1 < /dev/null | tee "$log" | show_latest_line "$label"; then
        ok "$label"
    else
        printf '  %sXX %s%s\n' "$red" "$label" "$plain"
        tail -n 25 "$log" | detail
        return 1
    fi
}

show_latest_line() { # LABEL
    local line printed=$SECONDS
    while IFS= read -r line; do
        if [[ -n $clear ]]; then
            printf '%s  -  %s  %s%s' "$clear" "$1" "$dim${line:0:60}" "$plain"
        elif ((SECONDS - printed >= 30)); then
            printf '    %s: %s\n' "$1" "$line"
            printed=$SECONDS
        fi
    done
    printf '%s' "$clear"
}

# ---- arguments ------------------------------------------------------------------------------------------------------

scope=user variant='' image='' postgres_image='' port='' action=install
build=no model='' backup='' start=yes dry_run=no purge=no yes=no

while (($# > 0)); do
    case $1 in
        --user | --system) scope=${1#--} ;;
        --embedded | --postgres) variant=${1#--} ;;
        --image | --postgres-image | --port)
            if [[ -z ${2:-} ]]; then wrong_usage "$1 needs a value; see --help"; fi
            name=${1#--}
            printf -v "${name/-/_}" %s "$2"
            shift
            ;;
        --build) build=yes ;;
        --with-model | --with-model-multilingual | --without-model) model=${1#--} build=yes ;;
        --no-backup) backup=no ;;
        --backup) backup=yes ;;
        --no-start) start=no ;;
        --dry-run) dry_run=yes ;;
        --uninstall) action=uninstall ;;
        --purge) purge=yes ;;
        --yes | -y) yes=yes ;;
        --help | -h) usage; exit 0 ;;
        *) wrong_usage "unknown option $1; see --help" ;;
    esac
    shift
done
if [[ -n $port ]] && ! { [[ $port =~ ^[1-9][0-9]{0,4}$ ]] && ((port <= 65535)); }; then
    wrong_usage "--port: expected a number from 1 to 65535, got '$port'"
fi
for ref in "$image" "$postgres_image"; do
    if [[ $ref == *[[:space:]]* || $ref == -* ]]; then wrong_usage "expected an image reference, got '$ref'"; fi
done
if [[ -n $model && -n $image ]]; then wrong_usage "--$model changes the local build, which --image replaces"; fi
if [[ $purge == yes && $action != uninstall ]]; then wrong_usage "--purge is only allowed with --uninstall"; fi

# ---- paths ----------------------------------------------------------------------------------------------------------

manager_variable() { # NAME DEFAULT
    { systemctl --user show-environment 2> /dev/null || true; } | sed -n "s/^$1=//p" | grep . || echo "$2"
}

if [[ $scope == system ]]; then
    ctl=(systemctl) journal=(journalctl) user_flag=() system_flag=' --system'
    config=/etc state=/var/lib generator_dir=/run/systemd/generator plain_dir=/etc/systemd/system
    who="this machine"
else
    ctl=(systemctl --user) journal=(journalctl --user) user_flag=(--user) system_flag=
    export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/run/user/$(id -u)}
    # Podman's generator runs in the user manager and uses the manager's environment instead of this shell's.
    config=$(manager_variable XDG_CONFIG_HOME "$HOME/.config")
    state=$(manager_variable XDG_STATE_HOME "$HOME/.local/state")
    generator_dir=$XDG_RUNTIME_DIR/systemd/generator plain_dir=$config/systemd/user
    who="user $(id -un)"
fi
unit_dir=$config/containers/systemd
backup_dir=$state/cognitive-memory-backup
backup_timer=cognitive-memory-backup.timer
# Our drop-in stores the chosen options for the next run. All other drop-ins belong to the user.
own_dropin=10-install.conf

tmp=$(mktemp -d)
changing=no
on_exit() {
    local code=$?
    trap - EXIT INT TERM
    if [[ $changing == yes ]]; then roll_back || true; fi
    rm -rf "$tmp"
    exit "$code"
}
trap on_exit EXIT
trap 'exit 130' INT; trap 'exit 143' TERM

# ---- checks ---------------------------------------------------------------------------------------------------------

at_least() { [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]; } # VERSION MINIMUM

installed_variant() {
    if [[ -e $unit_dir/cognitive-memory-data.volume ]]; then echo embedded; fi
    if [[ -e $unit_dir/$DATABASE.container ]]; then echo postgres; fi
}

installed_setting() { # UNIT KEY: prints the last value in our drop-in
    sed -n "s/^$2=//p" "$unit_dir/$1.container.d/$own_dropin" 2> /dev/null | grep . | tail -n 1 || true
}

check_system() {
    local systemd_version podman_version
    if [[ ! -d /run/systemd/system ]]; then
        problem "systemd does not run this machine" \
            "In a container or in WSL without systemd use compose/ (compose/README.md); WSL: systemd=true in /etc/wsl.conf."
        return 1
    fi
    systemd_version=$(systemctl --version | awk 'NR == 1 { print $2 }')
    if ((systemd_version < NEEDS_SYSTEMD)); then problem "systemd $systemd_version is older than $NEEDS_SYSTEMD" "Use compose/."; fi
    if ! command -v podman > /dev/null; then
        problem "podman is not installed" \
            "Debian, Ubuntu: apt install podman     Fedora, RHEL: dnf install podman     Arch: pacman -S podman"
        return 1
    fi
    podman_version=$(podman --version | awk '{ print $3 }')
    check_podman_version "$podman_version" || return 1
    find_generator || return 1
    check_caller || return 1
    ok "podman $podman_version, systemd $systemd_version"
    check_containers
}

check_podman_version() { # VERSION
    if at_least "$1" $NEEDS_PODMAN; then return; fi
    local reason="is too old: its generator drops units with unknown keys"
    if ! at_least "$1" 4.4; then reason="has no Quadlet"; fi
    problem "podman $1 $reason; $NEEDS_PODMAN is needed" \
        "Debian 13, Fedora 41, RHEL 9.6 and Ubuntu 25.04 have it. On this machine: compose/ (compose/README.md)."
    return 1
}

find_generator() {
    for quadlet in /usr/libexec/podman/quadlet /usr/lib/podman/quadlet \
        "/usr/lib/systemd/$scope-generators/podman-$scope-generator"; do
        if [[ -x $quadlet ]]; then return; fi
    done
    problem "podman's unit generator is missing" "Install the complete podman package (some distributions split it)."
    return 1
}

check_caller() {
    if [[ $scope == system ]]; then
        if ((EUID == 0)); then return; fi
        problem "--system needs root" "sudo quadlet/install.sh --system"
    elif ((EUID == 0)); then
        problem "you are root, and --user would install for root's own user manager" \
            "For the machine: --system. For a user: run it as that user."
    elif systemctl --user show-environment > /dev/null 2>&1; then
        return
    else
        problem "your systemd user manager cannot be reached (after su or sudo it has no session)" \
            "Log in directly, or: sudo machinectl shell $(id -un)@ ; for an account without login first: sudo loginctl enable-linger $(id -un)"
    fi
    return 1
}

check_containers() {
    local ids cgroups
    if [[ $scope == user ]]; then
        # The server has UID 65532 in the container, so that IDs up to this one must be mapped.
        ids=$(podman unshare awk '{ n += $3 } END { print n }' /proc/self/uid_map 2> /dev/null || echo 0)
        if ((ids < 65533)); then
            problem "you have $ids user IDs for containers, 65536 are needed" \
                "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $(id -un) && podman system migrate"
        else
            ok "user IDs for rootless containers"
        fi
    fi
    cgroups=$(podman info -f '{{.Host.CgroupsVersion}}' 2> /dev/null || true)
    if [[ $cgroups != v2 ]]; then
        problem "podman does not work or has no cgroups v2: $(podman info 2>&1 > /dev/null | tail -n 1 || true)" \
            "podman info shows the cause; cgroups v2: boot with systemd.unified_cgroup_hierarchy=1."
    fi
}

check_linger() {
    linger=yes
    if [[ $scope == system ]]; then return; fi
    if [[ $(loginctl show-user "$(id -un)" -P Linger 2> /dev/null || true) == yes ||
        -e /var/lib/systemd/linger/$(id -un) ]]; then
        ok "starts at boot without login (lingering is on)"
    # Without pkcheck, the attempt to turn lingering on is the first change of the installation.
    elif command -v pkcheck > /dev/null &&
        ! pkcheck --action-id org.freedesktop.login1.set-self-linger --process $$ > /dev/null 2>&1; then
        problem "you may not turn on lingering, without which the service stops when you log out" \
            "sudo loginctl enable-linger $(id -un)"
    else
        linger=no
        ok "lingering can be turned on"
    fi
}

check_selinux() {
    if [[ $(getenforce 2> /dev/null) != Enforcing ]]; then return; fi
    if [[ -e /usr/share/containers/selinux/contexts ]]; then
        ok "SELinux is enforcing; the data is in named volumes, which podman labels"
    else
        problem "SELinux is enforcing and has no policy for containers" "dnf install container-selinux"
    fi
}

# Passes the units with the user's drop-ins through podman's generator and systemd-analyze.
check_units() {
    local errors=$tmp/errors
    staged=$tmp/staged generated=$tmp/generated
    mkdir "$staged" "$generated"
    stage_units || return 1
    QUADLET_UNIT_DIRS=$staged "$quadlet" "${user_flag[@]}" --no-kmsg-log "$generated" > /dev/null 2> "$errors" || true
    report_missing_units >> "$errors"
    if [[ $variant == postgres && $backup == yes ]]; then install -m 0644 "$here"/backup/* "$generated/"; fi
    if [[ ! -s $errors ]]; then
        # The trailing colon adds the default path. Errors in other units are not reported.
        SYSTEMD_UNIT_PATH="$generated:" systemd-analyze "${user_flag[@]}" --man=no verify "$generated"/*.service \
            2>&1 | grep -F cognitive-memory >> "$errors" || true
    fi
    if [[ -s $errors ]]; then
        problem "the units are not accepted" "Check your drop-ins: $unit_dir/cognitive-memory-*.d/"
        sed -e "s#$tmp/##g" -e 's/^quadlet-generator\[[0-9]*\]: //' "$errors" | detail
        problem_code=$EX_CONFIG
        return 1
    fi
    ok "units: podman's generator and systemd-analyze accept them"
}

stage_units() {
    local source=$here dir file
    if [[ $variant == embedded ]]; then source=$here/embedded; fi
    for file in "$source"/*.container "$source"/*.network "$source"/*.volume; do
        if [[ -e $file ]]; then install -m 0644 "$file" "$staged/"; fi
    done
    if [[ ! -e $staged/$SERVICE.container ]]; then
        problem "there are no units in $source" "Run the script from a complete checkout."
        return 1
    fi
    for dir in "$unit_dir"/cognitive-memory-*.d; do
        if [[ -d $dir ]]; then cp -rL "$dir" "$staged/"; fi
    done
    write_own_dropins
}

report_missing_units() {
    local file name
    for file in "$staged"/*.{container,network,volume}; do
        if [[ ! -f $file ]]; then continue; fi
        name=$(basename "$file")
        case $name in
            *.container) name=${name%.container}.service ;;
            *) name=${name%.*}-${name##*.}.service ;;
        esac
        if [[ ! -s $generated/$name ]]; then echo "$(basename "$file") gives no $name"; fi
    done
}

write_own_dropins() {
    local dir=$staged/$SERVICE.container.d database_dir=$staged/$DATABASE.container.d
    mkdir -p "$dir" "$database_dir"
    rm -f "$dir/$own_dropin" "$database_dir/$own_dropin"
    {
        if [[ $image != "$LOCAL_IMAGE" ]]; then printf 'Image=%s\nPull=missing\nAutoUpdate=registry\n' "$image"; fi
        if [[ $port != 8765 ]]; then printf 'PublishPort=\nPublishPort=127.0.0.1:%s:8765\n' "$port"; fi
    } | write_dropin "$dir"
    if [[ $variant == postgres && -n $postgres_image ]]; then echo "Image=$postgres_image" | write_dropin "$database_dir"; fi
    rmdir --ignore-fail-on-non-empty "$dir" "$database_dir"
}

write_dropin() { # FOLDER. Writes the lines on standard input, if there are any.
    local lines
    lines=$(cat)
    if [[ -n $lines ]]; then
        printf '# Written by install.sh from its options; the next run reads it.\n[Container]\n%s\n' "$lines" > "$1/$own_dropin"
    fi
}

generated_image() { awk '/^ExecStart=/ { print $NF }' "$generated/$1.service"; }

# Reads port and images from the generated units, which include all drop-ins.
read_units() {
    local publish
    publish=$(grep -o -e '--publish [^ ]*' "$generated/$SERVICE.service" | head -n 1 | cut -d' ' -f2 || true)
    publish=${publish%:*}
    published_port=${publish##*:}
    published_address=${publish%"$published_port"}
    published_address=${published_address%:}
    published_address=${published_address:-0.0.0.0}
    images=("$(generated_image "$SERVICE")")
    if [[ $variant == postgres ]]; then images+=("$(generated_image "$DATABASE")"); fi
}

check_limits() {
    if grep -q -e '--pids-limit [1-9]' "$generated"/*.service &&
        ! podman info -f '{{.Host.CgroupControllers}}' 2> /dev/null | grep -qw pids; then
        problem "the pids controller is not delegated to you, so containers with a process limit do not start" \
            "Remove the limit: copy quadlet/drop-ins/limits.conf to" "$(printf "  $unit_dir/%s.container.d/ " "${services[@]}")"
    fi
}

check_port() {
    if [[ -z $published_port ]]; then note "no published port: only containers can reach the service"; return; fi
    local address=$published_address owner
    if [[ $address == 0.0.0.0 ]]; then address=127.0.0.1; fi
    if ! (exec 3<> "/dev/tcp/$address/$published_port") 2> /dev/null; then
        ok "port $published_address:$published_port is free"
    elif podman port "$SERVICE" 2> /dev/null | grep -q ":$published_port\$"; then
        ok "port $published_address:$published_port is used by the installed service"
    else
        owner=$(ss -ltnpH "sport = :$published_port" 2> /dev/null | grep -o 'users:((.*' | cut -d'"' -f2 | head -n 1 || true)
        problem "port $published_port is taken${owner:+ by $owner}" "Stop that program, or choose another port: --port 8766"
    fi
}

check_images() {
    to_pull=() to_build=no target=()
    # The label of the existing image remembers the choice.
    case ${model:-$(podman image inspect --format "{{index .Labels \"$MODEL_LABEL\"}}" "$LOCAL_IMAGE" 2> /dev/null)} in
        '' | without-model) ;;
        *multilingual*) target=(--target with-model-multilingual) ;;
        *) target=(--target with-model) ;;
    esac
    local ref
    for ref in "${images[@]}"; do
        if podman image exists "$ref" && ! [[ $build == yes && $ref == "$LOCAL_IMAGE" ]]; then
            ok "image $ref"
        elif [[ $ref != localhost/* ]]; then
            to_pull+=("$ref")
            ok "image $ref: to be pulled"
        elif [[ $ref != "$LOCAL_IMAGE" ]]; then
            problem "the image $ref does not exist" "podman images lists the existing images."
        elif [[ ! -e $checkout/Containerfile ]]; then
            problem "the image $ref does not exist, and there is no Containerfile to build it from" \
                "Run this from a checkout, or name an image: --image REF"
        else
            to_build=yes
            ok "image $ref: to be built from $checkout"
        fi
    done
}

check_secrets() {
    new_secrets=()
    local secrets=(cognitive-memory-tokens) secret
    if [[ $variant == postgres ]]; then secrets+=(cognitive-memory-db-password); fi
    for secret in "${secrets[@]}"; do
        if podman secret exists "$secret"; then
            ok "secret $secret"
        elif [[ $secret == cognitive-memory-db-password ]] && podman volume exists "$DATABASE"; then
            problem "there is a database (volume $DATABASE) but its password (secret $secret) is gone" \
                "If you know it:  printf %s 'PASSWORD' | podman secret create $secret -" \
                "Otherwise:       docs/operations.md, \"A lost database password\""
        else
            new_secrets+=("$secret")
        fi
    done
}

# ---- changes --------------------------------------------------------------------------------------------------------

random() { head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n'; }

create_secret() { # NAME. The values go through pipes, because other processes can see arguments.
    local value
    value=$(random)
    if [[ $1 == cognitive-memory-tokens ]]; then
        token=cm_$value
        # Only the hash is stored.
        value="default sha256:$(printf %s "$token" | sha256sum | cut -d' ' -f1)"
    fi
    printf %s "$value" | podman secret create "$1" - > /dev/null
    ok "secret $1 created"
}

# Prints the existing files of an installation of either kind.
existing_files() {
    local file
    for file in "$unit_dir"/{$SERVICE.container,$DATABASE.container,cognitive-memory-{backend,frontend}.network} \
        "$unit_dir"/{$DATABASE.volume,cognitive-memory-data.volume,{$SERVICE,$DATABASE}.container.d/$own_dropin} \
        "$plain_dir"/cognitive-memory-backup.{service,timer}; do
        if [[ -e $file ]]; then echo "$file"; fi
    done
}

# Fills file_changes with "new|changed|obsolete PATH", and wanted[PATH] with the source of the file.
declare -A wanted=()
file_changes=()
compare_files() {
    local file target
    while IFS= read -r -d '' file; do
        case $file in */*.d/*) [[ $(basename "$file") == "$own_dropin" ]] || continue ;; esac
        wanted[$unit_dir/${file#"$staged"/}]=$file
    done < <(find "$staged" -type f -print0)
    if [[ $variant == postgres && $backup == yes ]]; then
        for file in "$here"/backup/*; do wanted[$plain_dir/$(basename "$file")]=$file; done
    fi
    for target in "${!wanted[@]}"; do
        if [[ ! -e $target ]]; then
            file_changes+=("new $target")
        elif ! cmp -s "${wanted[$target]}" "$target"; then
            file_changes+=("changed $target")
        fi
    done
    while read -r target; do
        if [[ -z ${wanted[$target]:-} ]]; then file_changes+=("obsolete $target"); fi
    done < <(existing_files)
}

# Prints a generated unit in comparable form: the order of its options and the path of its source vary.
normalised() { sed -e '/^#/d; /^SourcePath=/d' -e '/^ExecStart=/s/ --/\n--/g' "$1" 2> /dev/null | sort; }

# Returns whether a service is not running, or runs with another unit or image than the ones to be installed.
needs_start() { # NAME
    local running wanted_image
    if [[ $("${ctl[@]}" is-active "$1.service" 2> /dev/null) != active ]]; then return 0; fi
    if ! cmp -s <(normalised "$generator_dir/$1.service") <(normalised "$generated/$1.service"); then return 0; fi
    running=$(podman container inspect -f '{{.Image}}' "$1" 2> /dev/null || true)
    wanted_image=$(podman image inspect -f '{{.Id}}' "$(generated_image "$1")" 2> /dev/null || true)
    [[ $running != "$wanted_image" ]]
}

roll_back() {
    changing=no
    heading "Going back to the previous installation"
    existing_files | xargs -r -d '\n' rm -f
    tar --extract --absolute-names --file "$tmp/before.tar"
    if [[ $to_build == yes ]] && podman image exists "$PREVIOUS_IMAGE"; then podman tag "$PREVIOUS_IMAGE" "$LOCAL_IMAGE"; fi
    "${ctl[@]}" daemon-reload
    if [[ $was_installed == yes && $start == yes ]]; then
        "${ctl[@]}" restart --no-block "$SERVICE.service" || true
        ok "the previous units are installed and started"
    else
        "${ctl[@]}" stop "$SERVICE.service" "$DATABASE.service" 2> /dev/null || true
        ok "the new units are removed"
    fi
}

install_files() {
    local change target
    for change in "${file_changes[@]}"; do
        target=${change#* }
        if [[ $change == obsolete* ]]; then
            if [[ $target == *.timer ]]; then "${ctl[@]}" disable --quiet --now "$(basename "$target")"; fi
            rm -f "$target"
        else
            # A concurrent daemon-reload must not see an incomplete file.
            mkdir -p "$(dirname "$target")"
            install -m 0644 "${wanted[$target]}" "$target.new"
            mv -f "$target.new" "$target"
        fi
    done
}

property() { "${ctl[@]}" show "$SERVICE.service" -P "$1" 2> /dev/null || true; }

# Prints the log since the start, without podman's messages about its own work.
show_log() {
    "${journal[@]}" --no-pager -o cat -u "$SERVICE.service" -u "$DATABASE.service" --since "@$started_at" 2> /dev/null |
        grep -v -E '^[0-9a-f]{64}$|^[-0-9]{10} [0-9:.]+ \+0000 UTC m=|^(Starting|Started|Stopping|Stopped) |<nwarn>|^$' |
        tail -n 15 | cut -c 1-300 | detail || true
}

# Starts the service and restarts what has changed. systemctl returns when the service has sent READY=1.
start_services() { # UNIT-TO-RESTART...
    local attempt
    item "starting; a first start or a large migration takes a while"
    started_at=$(date +%s)
    if (($# > 0)); then
        "${ctl[@]}" reset-failed "$@" 2> /dev/null || true
        "${ctl[@]}" restart "$@" 2> /dev/null || true
    fi
    # systemd repeats a failed start unless the exit code says that it is pointless. Wait for two repetitions.
    for attempt in 1 2 3; do
        if [[ $(property ActiveState) == failed ]]; then break; fi
        if "${ctl[@]}" start "$SERVICE.service" 2> /dev/null; then ok "active: the server answers"; return; fi
    done
    problem "$SERVICE does not start ($(property Result), exit status $(property ExecMainStatus), attempt $attempt)" \
        "The last lines of its log:"
    show_log
    return 1
}

# An active server answers; a ready one also has its database.
wait_until_ready() {
    for _ in {1..60}; do
        if podman healthcheck run "$SERVICE" > /dev/null 2>&1; then ok "ready: the health check passes"; return; fi
        sleep 0.5
    done
    problem "the service runs but is not ready" "$(podman exec "$SERVICE" /$SERVICE healthcheck 2>&1 | tail -n 1 || true)" \
        "docs/deployment.md, \"Running but not ready\""
    return 1
}

print_server_json() { # MEMBERS
    printf '  {\n    "mcpServers": {\n      "cognitive-memory": {\n%s\n      }\n    }\n  }\n' "$1"
}

print_clients() {
    local shown=${token:-YOUR-TOKEN} url=http://${published_address/#0.0.0.0/127.0.0.1}:$published_port/mcp
    if [[ -n ${token:-} ]]; then heading "Your token, shown only once"; printf '  %s\n' "$token"; fi
    if [[ -z $published_port ]]; then return; fi
    heading "Claude Code"
    printf "  claude mcp add --scope user --transport http cognitive-memory %s --header 'Authorization: Bearer %s'\n" "$url" "$shown"
    heading "Cursor and other clients with HTTP (~/.cursor/mcp.json)"
    print_server_json "        \"url\": \"$url\",
        \"headers\": { \"Authorization\": \"Bearer $shown\" }"
    heading "Claude Desktop and other clients that start a command (claude_desktop_config.json)"
    print_server_json "        \"command\": \"podman\",
        \"args\": [\"exec\", \"--interactive\", \"--env\", \"MEMORY_TOKEN\", \"$SERVICE\", \"/$SERVICE\", \"stdio\"],
        \"env\": { \"MEMORY_TOKEN\": \"$shown\" }"
    heading "Commands on this machine (stdio, list, recall and others)"
    printf '  # They send the token only to the service at this address, or to one that this user runs without a container.\n'
    printf '  export MEMORY_URL=%s MEMORY_TOKEN=%s\n' "$url" "$shown"
    if [[ -z ${token:-} ]]; then
        printf '\n  %sYOUR-TOKEN was printed by the first installation. To create another: docs/operations.md, "Tokens".%s\n' "$dim" "$plain"
    fi
}

print_everyday() {
    heading "Daily use"
    printf '  %-12s %s\n' state "${ctl[*]} status $SERVICE" log "${journal[*]} -t $SERVICE -f" \
        stop "${ctl[*]} stop $SERVICE" update "git pull && quadlet/install.sh${system_flag} --build" \
        remove "quadlet/install.sh${system_flag} --uninstall"
    if [[ $variant == postgres && $backup == yes ]]; then printf '  %-12s %s\n' backups "$backup_dir"; fi
}

do_install() {
    local restart=() name
    choose_settings
    check_everything
    if ((problems > 0)); then die "$problem_code" "Problems: $problems. Nothing was changed."; fi
    compare_files
    if [[ $dry_run == yes ]]; then print_plan; return; fi
    prepare_machine

    heading "Installing"
    for name in "${services[@]}"; do
        if needs_start "$name"; then restart+=("$name.service"); fi
    done
    install_units
    if [[ $start == no ]]; then changing=no; ok "not started; ${ctl[*]} start $SERVICE"; return; fi
    if ! start_services "${restart[@]}"; then
        # on_exit restores the previous installation.
        if [[ $was_installed == yes ]] && { ((${#file_changes[@]} > 0)) || [[ $to_build == yes ]]; }; then exit $EX_SOFTWARE; fi
        # Without a previous installation, or if only a setting of the user is wrong, there is nothing to go back to.
        changing=no
        die $EX_SOFTWARE "Installed, but not running. After correcting the cause: ${ctl[*]} restart $SERVICE. To remove it: quadlet/install.sh${system_flag} --uninstall"
    fi
    changing=no
    local code=0
    wait_until_ready || code=$EX_UNAVAILABLE
    print_clients
    print_everyday
    return "$code"
}

# Completes the options with the choices of the previous run and the defaults.
choose_settings() {
    was=$(installed_variant)
    variant=${variant:-${was:-postgres}}
    services=("$SERVICE")
    if [[ $variant == postgres ]]; then services+=("$DATABASE"); fi
    image=${image:-$(installed_setting "$SERVICE" Image)}
    image=${image:-$LOCAL_IMAGE}
    postgres_image=${postgres_image:-$(installed_setting "$DATABASE" Image)}
    port=${port:-$(installed_setting "$SERVICE" PublishPort | cut -d: -f2)}
    port=${port:-8765}
    if [[ -z $backup && $was == postgres && ! -e $plain_dir/$backup_timer ]]; then backup=no; fi
    backup=${backup:-yes}
}

check_everything() {
    local kind="with PostgreSQL"
    if [[ $variant == embedded ]]; then kind="on the embedded database"; fi
    printf '%s%s%s for %s, %s\n' "$bold" "$SERVICE" "$plain" "$who" "$kind"
    heading "Checks"
    if [[ -n $was && $was != "$variant" ]]; then
        problem "the other kind of database is installed ($was), and the installation does not move data" \
            "To keep it: omit --$variant. To change it: export first, then --uninstall and install again (docs/migration.md)."
    fi
    check_system || return 0
    check_linger
    check_selinux
    check_units || return 0
    read_units
    check_limits
    check_port
    check_images
    check_secrets
}

prepare_machine() {
    local name revision
    if [[ $linger == no || $to_build == yes || ${#to_pull[@]} -gt 0 || ${#new_secrets[@]} -gt 0 ]]; then heading "Preparing"; fi
    if [[ $linger == no ]]; then
        progress "lingering turned on: the service starts at boot and keeps running after logout" loginctl enable-linger "$(id -un)" ||
            die $EX_UNAVAILABLE "Lingering could not be turned on; nothing was changed. Remedy: sudo loginctl enable-linger $(id -un)"
    fi
    for name in "${to_pull[@]}"; do
        progress "pulling $name" podman pull "$name" || die $EX_UNAVAILABLE "The image could not be pulled; no unit was changed."
    done
    if [[ $to_build == yes ]]; then
        if podman image exists "$LOCAL_IMAGE"; then podman tag "$LOCAL_IMAGE" "$PREVIOUS_IMAGE"; fi
        revision=$(git -C "$checkout" rev-parse HEAD 2> /dev/null || echo unknown)
        progress "building $LOCAL_IMAGE" podman build --format docker "${target[@]}" --build-arg "REVISION=$revision" -t "$LOCAL_IMAGE" "$checkout" ||
            die $EX_SOFTWARE "The image could not be built; no unit was changed."
    fi
    for name in "${new_secrets[@]}"; do create_secret "$name"; done
}

install_units() {
    local name
    was_installed=no
    if [[ -n $(existing_files) ]]; then was_installed=yes; fi
    existing_files | tar --create --absolute-names --file "$tmp/before.tar" --files-from -
    changing=yes
    install_files
    if ((${#file_changes[@]} == 0)); then ok "units are up to date in $unit_dir"; else ok "files changed: ${#file_changes[@]}"; fi
    "${ctl[@]}" daemon-reload
    for name in "$generated"/cognitive-memory-*.service; do
        name=$(basename "$name")
        if [[ $("${ctl[@]}" show "$name" -P LoadState) != loaded ]]; then
            die $EX_SOFTWARE "systemd does not know $name after daemon-reload."
        fi
    done
    if [[ -n ${wanted[$plain_dir/$backup_timer]:-} ]]; then
        "${ctl[@]}" enable --quiet --now "$backup_timer"
        ok "daily backup to $backup_dir"
    fi
}

print_plan() {
    local name change
    heading "Would be done"
    if [[ $linger == no ]]; then item "loginctl enable-linger $(id -un)"; fi
    for name in "${to_pull[@]}"; do item "podman pull $name"; done
    if [[ $to_build == yes ]]; then item "podman build --format docker${target[*]:+ ${target[*]}} -t $LOCAL_IMAGE $checkout"; fi
    for name in "${new_secrets[@]}"; do item "podman secret create $name (random)"; done
    for change in "${file_changes[@]}"; do
        name=${change#* }
        item "$(printf '%-9s' "${change%% *}") $name"
        if [[ $change == changed* ]]; then diff -u --label installed --label new "$name" "${wanted[$name]}" | detail || true; fi
    done
    if ((${#file_changes[@]} > 0)); then item "${ctl[*]} daemon-reload"; fi
    for name in "${services[@]}"; do
        if [[ $start == yes ]] && needs_start "$name"; then item "${ctl[*]} restart $name.service"; fi
    done
    if [[ -n ${wanted[$plain_dir/$backup_timer]:-} ]] && ! "${ctl[@]}" is-enabled --quiet "$backup_timer" 2> /dev/null; then
        item "${ctl[*]} enable --now $backup_timer"
    fi
    printf '\nNothing was changed.\n'
}

do_uninstall() {
    local data=() name files
    printf '%sRemoving cognitive-memory-mcp%s for %s\n' "$bold" "$plain" "$who"
    if ! command -v podman > /dev/null; then die $EX_UNAVAILABLE "podman is not installed."; fi
    if ! check_caller; then exit $EX_UNAVAILABLE; fi
    for name in "volume $DATABASE" "volume cognitive-memory-data" "secret cognitive-memory-tokens" \
        "secret cognitive-memory-db-password"; do
        if podman "${name% *}" exists "${name#* }"; then data+=("$name"); fi
    done
    if [[ -d $backup_dir ]]; then data+=("backups $backup_dir"); fi
    mapfile -t files < <(existing_files)
    if [[ $purge == yes ]]; then confirm_purge "${data[@]}"; fi
    if [[ $dry_run == yes ]]; then
        heading "Would be done"
        item "${ctl[*]} stop $SERVICE $DATABASE $backup_timer"
        for name in "${files[@]}"; do item "remove $name"; done
        printf '\nNothing was changed.\n'
        return
    fi
    remove_units "${files[@]}"
    if [[ $purge == yes ]]; then
        for name in "${data[@]}"; do
            if [[ $name == backups* ]]; then rm -rf "$backup_dir"; else podman "${name% *}" rm "${name#* }" > /dev/null; fi
            ok "$name deleted"
        done
        return
    fi
    heading "Kept"
    for name in "${data[@]}" "images and lingering"; do item "$name"; done
    printf '\n  quadlet/install.sh%s installs it again with all its data.\n' "$system_flag"
}

confirm_purge() { # DATA...
    local name answer
    heading "Will be deleted permanently"
    for name in "$@"; do item "$name"; done
    if [[ $dry_run == yes || $yes == yes ]]; then return; fi
    if [[ ! -t 0 ]]; then die $EX_USAGE "--purge asks for confirmation; without a terminal add --yes. Nothing was changed."; fi
    read -r -p 'Type "purge" to continue: ' answer
    if [[ $answer != purge ]]; then die $EX_USAGE "Nothing was changed."; fi
}

remove_units() { # FILE...
    local name
    heading "Removing"
    "${ctl[@]}" disable --quiet --now "$backup_timer" 2> /dev/null || true
    for name in "$SERVICE" "$DATABASE"; do "${ctl[@]}" stop "$name.service" 2> /dev/null || true; done
    # A unit that waits for its automatic restart counts as stopped only after this.
    "${ctl[@]}" reset-failed "$SERVICE.service" "$DATABASE.service" 2> /dev/null || true
    "${ctl[@]}" stop cognitive-memory-{backend,frontend}-network.service cognitive-memory-{postgres,data}-volume.service \
        2> /dev/null || true
    ok "stopped"
    rm -f "$@"
    for name in "$SERVICE" "$DATABASE"; do
        rmdir --ignore-fail-on-non-empty "$unit_dir/$name.container.d" 2> /dev/null || true
        if [[ -d $unit_dir/$name.container.d ]]; then note "your drop-ins are kept: $unit_dir/$name.container.d"; fi
    done
    "${ctl[@]}" daemon-reload
    ok "files removed: $#"
    # Networks have no data, and the next installation creates them again.
    podman network rm cognitive-memory-backend cognitive-memory-frontend > /dev/null 2>&1 || true
}

"do_$action"
