#!/usr/bin/env bash
# Installs, updates or removes the cognitive memory as a systemd service. `install.sh --help` says how.
#
# Order of work: look at everything, refuse with all problems at once; only then change something, the harmless things
# first (images, secrets) and the units last. Units that were there before come back when the new ones do not start.
set -euo pipefail

readonly SERVICE=cognitive-memory-mcp
readonly DATABASE=cognitive-memory-postgres
readonly LOCAL_IMAGE=localhost/cognitive-memory-mcp:latest
readonly PREVIOUS_IMAGE=localhost/cognitive-memory-mcp:previous
readonly MODEL_LABEL=io.cognitive-memory.model
readonly NEEDS_PODMAN=5.4
readonly NEEDS_SYSTEMD=250
# sysexits: 64 usage, 69 something is missing on this machine, 70 a step failed, 78 the units are wrong.
readonly EX_USAGE=64 EX_UNAVAILABLE=69 EX_SOFTWARE=70 EX_CONFIG=78

here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
checkout=$(dirname "$here")

usage() {
    cat <<'TEXT'
Usage: quadlet/install.sh [OPTIONS]

Installs the memory service for you (or updates it), starts it, waits until it
is ready, and prints what to paste into an MCP client. Running it again is safe.

  --user              for you, rootless; runs without login (default)
  --system            for the machine; needs root
  --embedded          one container on a database file
  --postgres          two containers, PostgreSQL beside the service (default)
  --image REF         an image from a registry instead of a local build
  --postgres-image REF  another PostgreSQL image (17, with pgvector)
  --build             build the local image again, e.g. after `git pull`
  --with-model        build it with the embedding model (an image of 88 MB), to
                      recall by meaning; --without-model: the smallest image
  --port N            publish another port on 127.0.0.1 (default 8765)
  --no-backup         without the daily backup (PostgreSQL only); --backup: with it
  --no-start          install, but do not start
  --dry-run           check everything, show what would be done, change nothing
  --uninstall         stop and remove the units; keeps data, secrets and images
  --purge             with --uninstall: delete the data, backups and secrets too
  --yes               do not ask (for --purge)
  -h, --help          this text

Image, port, backup and kind of database are remembered for the next run.
TEXT
}

# ---- what the person sees -------------------------------------------------------------------------------------------

if [[ -t 1 && -z ${NO_COLOR:-} && ${TERM:-dumb} != dumb ]]; then
    bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' yellow=$'\e[33m' plain=$'\e[0m' clear=$'\r\e[K'
else
    bold='' dim='' red='' green='' yellow='' plain='' clear=''
fi
case ${LC_ALL:-${LC_CTYPE:-${LANG:-}}} in
    *[Uu][Tt][Ff]*) tick=✓ cross=✗ dot=· frames='⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏' ;;
    *) tick=ok cross=XX dot=- frames='-+' ;;
esac

heading() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
ok() { printf '  %s%s%s %s\n' "$green" "$tick" "$plain" "$*"; }
note() { printf '  %s%s%s %s\n' "$yellow" '!' "$plain" "$*"; }
would() { printf '  %s%s%s %s\n' "$dim" "$dot" "$plain" "$*"; }
detail() { sed "s/^/      $dim/; s/\$/$plain/"; }

problems=0
problem_code=$EX_UNAVAILABLE
problem() { # WHAT REMEDY...
    printf '  %s%s %s%s\n' "$red" "$cross" "$1" "$plain"
    shift
    printf '      %s\n' "$@"
    problems=$((problems + 1))
}

die() { # CODE MESSAGE
    printf '\n%s%s%s\n' "$red" "$2" "$plain" >&2
    exit "$1"
}

count() { # NUMBER NOUN
    if (($1 == 1)); then echo "1 $2"; else echo "$1 $2s"; fi
}

elapsed() { # SECONDS
    if (($1 < 60)); then printf '%d s' "$1"; else printf '%d min %02d s' $(($1 / 60)) $(($1 % 60)); fi
}

# Runs a command with its output in a file; on a terminal one line moves, elsewhere a line every half minute says that
# it is still going.
progress() { # LABEL COMMAND...
    local label=$1 log=$tmp/step.log started=$SECONDS pid i=0 last='' code=0
    shift
    "$@" > "$log" 2>&1 < /dev/null &
    pid=$!
    child=$pid
    while kill -0 "$pid" 2> /dev/null; do
        if [[ -n $clear ]]; then
            last=$(tail -c 400 "$log" | tr '\r' '\n' | grep -v '^[[:space:]]*$' | tail -n 1 | cut -c 1-60 || true)
            printf '%s  %s %s %s%s  %s%s' "$clear" "${frames:i++ % ${#frames}:1}" "$label" "$dim" \
                "$(elapsed $((SECONDS - started)))" "$last" "$plain"
            sleep 0.2
        else
            if ((++i % 30 == 0)); then printf '    %s: %s so far\n' "$label" "$(elapsed $((SECONDS - started)))"; fi
            sleep 1
        fi
    done
    wait "$pid" || code=$?
    child=
    printf '%s' "$clear"
    if ((code == 0)); then
        ok "$label $dim($(elapsed $((SECONDS - started))))$plain"
    else
        printf '  %s%s %s%s\n' "$red" "$cross" "$label" "$plain"
        tail -n 25 "$log" | detail
    fi
    return "$code"
}

# ---- arguments ------------------------------------------------------------------------------------------------------

scope=user variant='' image='' postgres_image='' port='' action=install
build=no model='' backup='' start=yes dry_run=no purge=no yes=no

value() { # OPTION REMAINING-ARGUMENTS VALUE
    if (($2 < 2)) || [[ -z $3 ]]; then
        echo "install.sh: $1 needs a value; see --help" >&2
        exit $EX_USAGE
    fi
}

while (($# > 0)); do
    case $1 in
        --user) scope=user ;;
        --system) scope=system ;;
        --embedded) variant=embedded ;;
        --postgres) variant=postgres ;;
        --image) value "$1" $# "${2:-}"; image=$2; shift ;;
        --postgres-image) value "$1" $# "${2:-}"; postgres_image=$2; shift ;;
        --port) value "$1" $# "${2:-}"; port=$2; shift ;;
        --build) build=yes ;;
        --with-model) model=with build=yes ;;
        --without-model) model=without build=yes ;;
        --no-backup) backup=no ;;
        --backup) backup=yes ;;
        --no-start) start=no ;;
        --dry-run) dry_run=yes ;;
        --uninstall) action=uninstall ;;
        --purge) purge=yes ;;
        --yes | -y) yes=yes ;;
        --help | -h) usage; exit 0 ;;
        *) echo "install.sh: unknown option $1; see --help" >&2; exit $EX_USAGE ;;
    esac
    shift
done
if [[ -n $port ]] && ! { [[ $port =~ ^[1-9][0-9]{0,4}$ ]] && ((port <= 65535)); }; then
    echo "install.sh: --port $port is not a port (1 to 65535)" >&2
    exit $EX_USAGE
fi
for ref in "$image" "$postgres_image"; do
    if [[ $ref == *[[:space:]]* || $ref == -* ]]; then
        echo "install.sh: '$ref' is not an image reference" >&2
        exit $EX_USAGE
    fi
done
if [[ -n $model && -n $image ]]; then
    echo "install.sh: --$model-model is about the local build, and --image takes another one" >&2
    exit $EX_USAGE
fi
if [[ $purge == yes && $action != uninstall ]]; then
    echo "install.sh: --purge goes with --uninstall" >&2
    exit $EX_USAGE
fi

# ---- places ---------------------------------------------------------------------------------------------------------

if [[ $scope == system ]]; then
    ctl=(systemctl) journal=(journalctl) user_flag=()
    config=/etc state=/var/lib generator_dir=/run/systemd/generator
    plain_dir=/etc/systemd/system
    who="this machine"
else
    ctl=(systemctl --user) journal=(journalctl --user) user_flag=(--user)
    export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/run/user/$(id -u)}
    # The generator runs in the user's manager: its idea of the folder counts, not this shell's.
    config=$(systemctl --user show-environment 2> /dev/null | sed -n 's/^XDG_CONFIG_HOME=//p' || true)
    config=${config:-$HOME/.config}
    state=$(systemctl --user show-environment 2> /dev/null | sed -n 's/^XDG_STATE_HOME=//p' || true)
    state=${state:-$HOME/.local/state}
    generator_dir=$XDG_RUNTIME_DIR/systemd/generator
    plain_dir=$config/systemd/user
    who="user $(id -un)"
fi
unit_dir=$config/containers/systemd
backup_dir=$state/cognitive-memory-backup
# Written by us, so that an update can read back what was chosen; everything else in these folders is the person's.
own_dropin=10-install.conf

tmp=$(mktemp -d)
child=
changing=no
on_exit() {
    local code=$?
    trap - EXIT INT TERM
    if [[ -n $child ]]; then kill "$child" 2> /dev/null || true; fi
    if [[ $changing == yes ]]; then roll_back || true; fi
    rm -rf "$tmp"
    exit "$code"
}
trap on_exit EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# ---- looking, without changing --------------------------------------------------------------------------------------

at_least() { # VERSION MINIMUM
    [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]
}

installed_variant() {
    if [[ -e $unit_dir/cognitive-memory-data.volume ]]; then
        echo embedded
    elif [[ -e $unit_dir/$DATABASE.container ]]; then
        echo postgres
    fi
}

installed_setting() { # UNIT KEY: the last value in our drop-in
    sed -n "s/^$2=//p" "$unit_dir/$1.container.d/$own_dropin" 2> /dev/null | grep . | tail -n 1 || true
}

check_system() {
    if [[ ! -d /run/systemd/system ]]; then
        problem "systemd does not run this machine" \
            "In a container or in WSL without systemd use compose/ (compose/README.md); WSL: systemd=true in /etc/wsl.conf."
        return 1
    fi
    local version
    version=$(systemctl --version | awk 'NR == 1 { print $2 }')
    if ((version < NEEDS_SYSTEMD)); then problem "systemd $version is too old, $NEEDS_SYSTEMD is needed" "compose/ works here."; fi

    if ! command -v podman > /dev/null; then
        problem "podman is not installed" \
            "Debian, Ubuntu: apt install podman     Fedora, RHEL: dnf install podman     Arch: pacman -S podman"
        return 1
    fi
    local podman_version
    podman_version=$(podman --version | awk '{ print $3 }')
    if ! at_least "$podman_version" 4.4; then
        problem "podman $podman_version has no Quadlet; it came with 4.4, and these units need $NEEDS_PODMAN" \
            "Debian 13, Fedora 41, RHEL 9.6 and Ubuntu 25.04 have it. On this machine: compose/ (compose/README.md)."
        return 1
    elif ! at_least "$podman_version" $NEEDS_PODMAN; then
        problem "podman $podman_version is too old: its generator drops units with keys it does not know; $NEEDS_PODMAN is needed" \
            "Debian 13, Fedora 41, RHEL 9.6 and Ubuntu 25.04 have it. On this machine: compose/ (compose/README.md)."
        return 1
    fi

    quadlet=
    for candidate in /usr/libexec/podman/quadlet /usr/lib/podman/quadlet \
        "/usr/lib/systemd/$scope-generators/podman-$scope-generator"; do
        if [[ -x $candidate ]]; then quadlet=$candidate; break; fi
    done
    if [[ -z $quadlet ]]; then
        problem "podman's unit generator is missing" "Install the complete podman package (some distributions split it)."
        return 1
    fi

    if [[ $scope == system ]]; then
        if ((EUID != 0)); then
            problem "--system needs root" "sudo quadlet/install.sh --system"
            return 1
        fi
    else
        if ((EUID == 0)); then
            problem "you are root, and this would install for root's own user manager" \
                "For the machine: --system. For a user: run it as that user."
            return 1
        fi
        if ! systemctl --user show-environment > /dev/null 2>&1; then
            problem "your systemd user manager cannot be reached (after su or sudo it has no session)" \
                "Log in directly, or: sudo machinectl shell $(id -un)@ ; for an account without login first: sudo loginctl enable-linger $(id -un)"
            return 1
        fi
    fi
    ok "podman $podman_version, systemd $version"

    # Rootless: the server is uid 65532 of the container, so that many subordinate ids are needed.
    if [[ $scope == user ]]; then
        local ids
        ids=$(podman unshare awk '{ n += $3 } END { print n }' /proc/self/uid_map 2> /dev/null || echo 0)
        if ((ids < 65533)); then
            problem "you have $ids user ids for containers, 65536 are needed" \
                "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $(id -un) && podman system migrate"
        else
            ok "user ids for rootless containers"
        fi
    fi
    local cgroups
    cgroups=$(podman info -f '{{.Host.CgroupsVersion}}' 2> /dev/null || true)
    if [[ $cgroups != v2 ]]; then
        problem "podman does not work here or has no cgroups v2: $(podman info 2>&1 > /dev/null | tail -n 1 || true)" \
            "podman info shows the cause; cgroups v2: boot with systemd.unified_cgroup_hierarchy=1."
    fi
}

check_linger() {
    linger=yes
    if [[ $scope == system ]]; then return; fi
    if [[ $(loginctl show-user "$(id -un)" -P Linger 2> /dev/null || true) == yes ||
        -e /var/lib/systemd/linger/$(id -un) ]]; then
        ok "starts at boot without login (lingering is on)"
        return
    fi
    # Asked before anything is changed; where polkit cannot be asked, enabling it is the first change of all.
    if command -v pkcheck > /dev/null &&
        ! pkcheck --action-id org.freedesktop.login1.set-self-linger --process $$ > /dev/null 2>&1; then
        problem "you may not turn on lingering, without which the service stops when you log out" \
            "sudo loginctl enable-linger $(id -un)"
        return
    fi
    linger=no
    ok "lingering can be turned on"
}

check_selinux() {
    local mode
    mode=$(getenforce 2> /dev/null || echo Disabled)
    if [[ $mode == Enforcing ]]; then
        if [[ ! -e /usr/share/containers/selinux/contexts ]]; then
            problem "SELinux is enforcing and has no policy for containers" "dnf install container-selinux"
        else
            ok "SELinux is enforcing; the data is in named volumes, which podman labels"
        fi
    fi
}

# The units as they would be installed, with the person's drop-ins, through the real generator.
check_units() {
    local source=$here dir name file errors=$tmp/errors
    staged=$tmp/staged generated=$tmp/generated
    mkdir "$staged" "$generated"
    if [[ $variant == embedded ]]; then source=$here/embedded; fi
    for file in "$source"/*.container "$source"/*.network "$source"/*.volume; do
        if [[ -e $file ]]; then install -m 0644 "$file" "$staged/"; fi
    done
    if [[ ! -e $staged/$SERVICE.container ]]; then
        problem "the units are not beside this script ($source)" "Run it from a complete checkout."
        return 1
    fi
    for dir in "$unit_dir"/cognitive-memory-*.d; do
        if [[ -d $dir ]]; then cp -rL "$dir" "$staged/"; fi
    done
    write_own_dropins

    QUADLET_UNIT_DIRS=$staged "$quadlet" "${user_flag[@]}" --dryrun > /dev/null 2> "$errors" || true
    sed -i '/Loading source /d; /^$/d' "$errors"
    QUADLET_UNIT_DIRS=$staged "$quadlet" "${user_flag[@]}" --no-kmsg-log "$generated" > /dev/null 2>&1 || true
    for file in "$staged"/*.*; do
        if [[ ! -f $file ]]; then continue; fi
        name=$(basename "$file")
        case $name in
            *.container) name=${name%.container}.service ;;
            *.network) name=${name%.network}-network.service ;;
            *.volume) name=${name%.volume}-volume.service ;;
        esac
        if [[ ! -s $generated/$name ]]; then echo "$(basename "$file") gives no $name" >> "$errors"; fi
    done
    if [[ $variant == postgres && $backup == yes ]]; then
        install -m 0644 "$here"/backup/* "$generated/"
    fi
    if [[ ! -s $errors ]]; then
        # The trailing colon adds the manager's own path. Complaints about other units are not ours to judge.
        SYSTEMD_UNIT_PATH="$generated:" systemd-analyze "${user_flag[@]}" --man=no verify "$generated"/*.service \
            2>&1 | grep -F cognitive-memory >> "$errors" || true
    fi
    if [[ -s $errors ]]; then
        problem "the units are not accepted" "An error in a drop-in of yours? They are in $unit_dir/cognitive-memory-*.d/"
        sed -e "s#$tmp/##g" -e 's/^quadlet-generator\[[0-9]*\]: //' "$errors" | detail
        problem_code=$EX_CONFIG
        return 1
    fi
    ok "units: podman's generator and systemd-analyze accept them"
}

write_own_dropins() {
    local dir=$staged/$SERVICE.container.d
    mkdir -p "$dir" "$staged/$DATABASE.container.d"
    rm -f "$dir/$own_dropin" "$staged/$DATABASE.container.d/$own_dropin"
    if [[ $image != "$LOCAL_IMAGE" || $port != 8765 ]]; then
        {
            echo "# Written by install.sh from --image and --port; the next run reads it back."
            echo "[Container]"
            if [[ $image != "$LOCAL_IMAGE" ]]; then printf 'Image=%s\nPull=missing\nAutoUpdate=registry\n' "$image"; fi
            if [[ $port != 8765 ]]; then printf 'PublishPort=\nPublishPort=127.0.0.1:%s:8765\n' "$port"; fi
        } > "$dir/$own_dropin"
    fi
    if [[ $variant == postgres && -n $postgres_image ]]; then
        {
            echo "# Written by install.sh from --postgres-image; the next run reads it back."
            echo "[Container]"
            printf 'Image=%s\n' "$postgres_image"
        } > "$staged/$DATABASE.container.d/$own_dropin"
    fi
    rmdir --ignore-fail-on-non-empty "$dir" "$staged/$DATABASE.container.d"
}

generated_image() { awk '/^ExecStart=/ { print $NF }' "$generated/$1.service"; }

# What the units say after all drop-ins, the person's included.
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
        problem "the pids controller is not delegated to you, so a container with a limit of processes does not start" \
            "Take the limit out: copy quadlet/drop-ins/limits.conf to" "$(printf "  $unit_dir/%s.container.d/ " "${services[@]}")"
    fi
}

check_port() {
    if [[ -z $published_port ]]; then note "no published port: only containers reach the service"; return; fi
    local address=$published_address owner
    if [[ $address == 0.0.0.0 ]]; then address=127.0.0.1; fi
    if ! (exec 3<> "/dev/tcp/$address/$published_port") 2> /dev/null; then
        ok "port $published_address:$published_port is free"
    elif podman port "$SERVICE" 2> /dev/null | grep -q ":$published_port\$"; then
        ok "port $published_address:$published_port is ours"
    else
        owner=$(ss -ltnpH "sport = :$published_port" 2> /dev/null | grep -o 'users:((.*' | cut -d'"' -f2 | head -n 1 || true)
        problem "port $published_port is taken${owner:+ by $owner}" "Stop that program, or choose another one: --port 8766"
    fi
}

check_images() {
    to_pull=() to_build=no target=()
    # The image that is there remembers the choice.
    if [[ -z $model && -n $(podman image inspect --format "{{index .Labels \"$MODEL_LABEL\"}}" "$LOCAL_IMAGE" 2> /dev/null) ]]; then
        model=with
    fi
    if [[ $model == with ]]; then target=(--target with-model); fi
    local ref
    for ref in "${images[@]}"; do
        if [[ $ref == localhost/* ]]; then
            if [[ $build == yes && $ref == "$LOCAL_IMAGE" ]] || ! podman image exists "$ref"; then
                if [[ $ref != "$LOCAL_IMAGE" ]]; then
                    problem "the image $ref does not exist" "podman images lists what there is."
                elif [[ ! -e $checkout/Containerfile ]]; then
                    problem "the image $ref does not exist, and there is no Containerfile to build it from" \
                        "Run this from a checkout, or name an image: --image REF"
                else
                    to_build=yes
                    ok "image $ref: to be built from $checkout"
                fi
            else
                ok "image $ref"
            fi
        elif podman image exists "$ref"; then
            ok "image $ref"
        else
            to_pull+=("$ref")
            ok "image $ref: to be fetched"
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
                "You know it:    printf %s 'PASSWORD' | podman secret create $secret -" \
                "You do not:     docs/operations.md, \"A lost database password\""
        else
            new_secrets+=("$secret")
        fi
    done
}

# ---- changing -------------------------------------------------------------------------------------------------------

random() { head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n'; }

create_secret() { # NAME. Values go through pipes: arguments are visible to every process.
    case $1 in
        cognitive-memory-db-password) random | podman secret create "$1" - > /dev/null ;;
        cognitive-memory-tokens)
            token=cm_$(random)
            # Only the hash is kept.
            printf 'default sha256:%s\n' "$(printf %s "$token" | sha256sum | cut -d' ' -f1)" |
                podman secret create "$1" - > /dev/null
            ;;
    esac
    ok "secret $1 created"
}

# Every file that belongs to an installation of ours, of either kind.
own_files() {
    printf '%s\n' \
        "$unit_dir/$SERVICE.container" "$unit_dir/$DATABASE.container" \
        "$unit_dir/cognitive-memory-backend.network" "$unit_dir/cognitive-memory-frontend.network" \
        "$unit_dir/$DATABASE.volume" "$unit_dir/cognitive-memory-data.volume" \
        "$unit_dir/$SERVICE.container.d/$own_dropin" "$unit_dir/$DATABASE.container.d/$own_dropin" \
        "$plain_dir/cognitive-memory-backup.service" "$plain_dir/cognitive-memory-backup.timer"
}

# Fills file_changes with "new|changed|obsolete PATH", and wanted[PATH] with the source.
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
        if [[ -e $target && -z ${wanted[$target]:-} ]]; then file_changes+=("obsolete $target"); fi
    done < <(own_files)
}

# A generated unit in comparable form: the generator writes options in a new order each time, and names its source.
normalised() { sed -e '/^#/d; /^SourcePath=/d' -e '/^ExecStart=/s/ --/\n--/g' "$1" 2> /dev/null | sort; }

# Which services have to be (re)started: the unit as generated now against the one which systemd knows.
needs_start() { # NAME
    local known=$generator_dir/$1.service running wanted_image
    if [[ $("${ctl[@]}" is-active "$1.service" 2> /dev/null) != active ]]; then return 0; fi
    if ! diff -q <(normalised "$known") <(normalised "$generated/$1.service") > /dev/null; then
        return 0
    fi
    running=$(podman container inspect -f '{{.Image}}' "$1" 2> /dev/null || true)
    wanted_image=$(podman image inspect -f '{{.Id}}' "$(generated_image "$1")" 2> /dev/null || true)
    [[ $running != "$wanted_image" ]]
}

save_files() {
    local file
    mkdir "$tmp/before"
    was_installed=no
    while read -r file; do
        if [[ -e $file ]]; then
            was_installed=yes
            mkdir -p "$tmp/before$(dirname "$file")"
            cp -p "$file" "$tmp/before$file"
        fi
    done < <(own_files)
}

roll_back() {
    changing=no
    heading "Going back to what was there before"
    local file
    while read -r file; do
        if [[ -e $tmp/before$file ]]; then
            cp -p "$tmp/before$file" "$file"
        else
            rm -f "$file"
        fi
    done < <(own_files)
    if [[ $to_build == yes ]] && podman image exists "$PREVIOUS_IMAGE"; then podman tag "$PREVIOUS_IMAGE" "$LOCAL_IMAGE"; fi
    "${ctl[@]}" daemon-reload
    if [[ $was_installed == yes && $start == yes ]]; then
        "${ctl[@]}" restart --no-block "$SERVICE.service" || true
        ok "the units of before are installed and started again"
    else
        "${ctl[@]}" stop "$SERVICE.service" "$DATABASE.service" 2> /dev/null || true
        ok "the units are removed again"
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
            # In one step: a daemon-reload by somebody else must not see half a file.
            mkdir -p "$(dirname "$target")"
            install -m 0644 "${wanted[$target]}" "$target.new"
            mv -f "$target.new" "$target"
        fi
    done
}

property() { "${ctl[@]}" show "$SERVICE.service" -P "$1" 2> /dev/null || true; }

# Everything of this attempt except podman's notes on its own work.
show_log() {
    "${journal[@]}" --no-pager -o cat -u "$SERVICE.service" -u "$DATABASE.service" --since "@$started_at" 2> /dev/null |
        grep -v -E '^[0-9a-f]{64}$|^[-0-9]{10} [0-9:.]+ \+0000 UTC m=|^(Starting|Started|Stopping|Stopped) |<nwarn>|^$' |
        tail -n 15 | cut -c 1-300 | detail || true
}

# Follows the start until the service has said READY=1.
wait_until_active() {
    local started=$SECONDS i=0 state text last='' database result='' code=0 seen
    while :; do
        state=$(property ActiveState)
        text=
        seen=$(property Result)
        if [[ $seen != success ]]; then result=$seen; fi
        seen=$(property ExecMainStatus)
        if [[ $seen != 0 ]]; then code=$seen; fi
        # Until the restart begins, everything systemd says is about the run before.
        if [[ $(property InvocationID) != "$invocation_before" ]]; then
            text=$(property StatusText)
            if [[ $state == active ]]; then break; fi
        fi
        if [[ $state == failed && -z $("${ctl[@]}" show "$SERVICE.service" -P Job) ]] || (($(property NRestarts) > 2)); then
            printf '%s' "$clear"
            problem "$SERVICE does not start (${result:-no result}, exit status $code)" \
                "The last lines of its log:"
            show_log
            return 1
        fi
        if ((SECONDS - started > 900)); then
            printf '%s' "$clear"
            problem "$SERVICE is not ready after 15 minutes" "${ctl[*]} status $SERVICE"
            show_log
            return 1
        fi
        if [[ -z $text && $variant == postgres ]]; then
            database=$("${ctl[@]}" is-active "$DATABASE.service" 2> /dev/null || true)
            if [[ $database == activating ]]; then text="waiting for PostgreSQL"; fi
        fi
        text=${text:-starting}
        if [[ -n $clear ]]; then
            printf '%s  %s %s %s%s%s' "$clear" "${frames:i++ % ${#frames}:1}" "$text" "$dim" \
                "$(elapsed $((SECONDS - started)))" "$plain"
        elif [[ $text != "$last" ]]; then
            printf '    %s\n' "$text"
        fi
        last=$text
        sleep 0.2
    done
    printf '%s' "$clear"
    ok "active: the server answers $dim($(elapsed $((SECONDS - started))))$plain"
}

# Active means that the server answers; ready means that the database does too.
wait_until_ready() {
    local i
    for ((i = 0; i < 60; i++)); do
        if podman healthcheck run "$SERVICE" > /dev/null 2>&1; then
            ok "ready: the health check passes"
            return 0
        fi
        sleep 0.5
    done
    problem "the service runs but is not ready" "$(podman exec "$SERVICE" /$SERVICE healthcheck 2>&1 | tail -n 1 || true)" \
        "docs/deployment.md, \"Running but not ready\""
    return 1
}

print_clients() {
    local address=$published_address shown=${token:-YOUR-TOKEN} url
    if [[ $address == 0.0.0.0 ]]; then address=127.0.0.1; fi
    url=http://$address:$published_port/mcp
    if [[ -n ${token:-} ]]; then
        heading "Your token, shown this once"
        printf '  %s\n' "$token"
    fi
    if [[ -z $published_port ]]; then return; fi
    heading "Claude Code"
    printf "  claude mcp add --scope user --transport http cognitive-memory %s --header 'Authorization: Bearer %s'\n" "$url" "$shown"
    heading "Cursor and others that speak HTTP (~/.cursor/mcp.json)"
    cat <<JSON
  {
    "mcpServers": {
      "cognitive-memory": {
        "url": "$url",
        "headers": { "Authorization": "Bearer $shown" }
      }
    }
  }
JSON
    heading "Claude Desktop and others that start a command (claude_desktop_config.json)"
    cat <<JSON
  {
    "mcpServers": {
      "cognitive-memory": {
        "command": "podman",
        "args": ["exec", "--interactive", "--env", "MEMORY_TOKEN", "$SERVICE", "/$SERVICE", "stdio"],
        "env": { "MEMORY_TOKEN": "$shown" }
      }
    }
  }
JSON
    heading "Commands on this machine (stdio, list, recall and others)"
    printf '  # They send a token only to the service that is named here or runs outside of a container as this user.\n'
    printf '  export MEMORY_URL=%s MEMORY_TOKEN=%s\n' "$url" "$shown"
    if [[ -z ${token:-} ]]; then
        printf '\n  %sYOUR-TOKEN was shown when it was made. A new one: docs/operations.md, "Tokens".%s\n' "$dim" "$plain"
    fi
}

print_everyday() {
    heading "From here on"
    printf '  %-12s %s\n' state "${ctl[*]} status $SERVICE" log "${journal[*]} -t $SERVICE -f" \
        stop "${ctl[*]} stop $SERVICE" update "git pull && quadlet/install.sh${system_flag} --build" \
        remove "quadlet/install.sh${system_flag} --uninstall"
    if [[ $variant == postgres && $backup == yes ]]; then printf '  %-12s %s\n' backups "$backup_dir"; fi
}

do_install() {
    local was
    was=$(installed_variant)
    variant=${variant:-${was:-postgres}}
    services=("$SERVICE")
    if [[ $variant == postgres ]]; then services+=("$DATABASE"); fi
    if [[ -z $image ]]; then image=$(installed_setting "$SERVICE" Image); fi
    image=${image:-$LOCAL_IMAGE}
    if [[ -z $postgres_image ]]; then postgres_image=$(installed_setting "$DATABASE" Image); fi
    if [[ -z $port ]]; then port=$(installed_setting "$SERVICE" PublishPort | cut -d: -f2); fi
    port=${port:-8765}
    if [[ -z $backup && $was == postgres && ! -e $plain_dir/cognitive-memory-backup.timer ]]; then backup=no; fi
    backup=${backup:-yes}

    local kind="with PostgreSQL"
    if [[ $variant == embedded ]]; then kind="on the embedded database"; fi
    printf '%scognitive-memory-mcp%s for %s, %s\n' "$bold" "$plain" "$who" "$kind"

    heading "Checks"
    if [[ -n $was && $was != "$variant" ]]; then
        problem "it is installed on the other kind of database ($was), and data does not move by itself" \
            "Keep it: leave out --$variant. Change: export first, then --uninstall and install again (docs/migration.md)."
    fi
    if check_system; then
        check_linger
        check_selinux
        if check_units; then
            read_units
            check_limits
            check_port
            check_images
            check_secrets
        fi
    fi
    if ((problems > 0)); then
        die "$problem_code" "$(count "$problems" problem), nothing was changed."
    fi
    compare_files

    if [[ $dry_run == yes ]]; then
        print_plan
        return
    fi

    local restart=() name
    if [[ $linger == no || $to_build == yes || ${#to_pull[@]} -gt 0 || ${#new_secrets[@]} -gt 0 ]]; then heading "Preparing"; fi
    if [[ $linger == no ]]; then
        loginctl enable-linger "$(id -un)" 2> "$tmp/step.log" || {
            detail < "$tmp/step.log"
            die $EX_UNAVAILABLE "Lingering could not be turned on; nothing was changed. Remedy: sudo loginctl enable-linger $(id -un)"
        }
        ok "lingering turned on: the service starts at boot and outlives your logout"
    fi
    for name in "${to_pull[@]}"; do
        progress "fetching $name" podman pull "$name" || die $EX_UNAVAILABLE "The image could not be fetched; no unit was changed."
    done
    if [[ $to_build == yes ]]; then
        if podman image exists "$LOCAL_IMAGE"; then podman tag "$LOCAL_IMAGE" "$PREVIOUS_IMAGE"; fi
        local revision
        revision=$(git -C "$checkout" rev-parse HEAD 2> /dev/null || echo unknown)
        progress "building $LOCAL_IMAGE" podman build --format docker "${target[@]}" --build-arg "REVISION=$revision" -t "$LOCAL_IMAGE" "$checkout" ||
            die $EX_SOFTWARE "The image could not be built; no unit was changed."
    fi
    for name in "${new_secrets[@]}"; do create_secret "$name"; done

    heading "Installing"
    for name in "${services[@]}"; do
        if needs_start "$name"; then restart+=("$name.service"); fi
    done
    save_files
    changing=yes
    install_files
    if ((${#file_changes[@]} > 0)); then
        ok "$(count ${#file_changes[@]} file) in $unit_dir"
    else
        ok "units are up to date in $unit_dir"
    fi
    "${ctl[@]}" daemon-reload
    for name in "$generated"/cognitive-memory-*.service; do
        name=$(basename "$name")
        if [[ $("${ctl[@]}" show "$name" -P LoadState) != loaded ]]; then
            die $EX_SOFTWARE "systemd does not know $name after daemon-reload."
        fi
    done
    if [[ -n ${wanted[$plain_dir/cognitive-memory-backup.timer]:-} ]]; then
        "${ctl[@]}" enable --quiet --now cognitive-memory-backup.timer
        ok "daily backup to $backup_dir"
    fi
    if [[ $start == no ]]; then
        changing=no
        ok "not started; ${ctl[*]} start $SERVICE"
        return
    fi

    started_at=$(date +%s)
    invocation_before=none
    if ((${#restart[@]} > 0)); then
        if [[ " ${restart[*]} " == *" $SERVICE.service "* ]]; then invocation_before=$(property InvocationID); fi
        "${ctl[@]}" reset-failed "${restart[@]}" 2> /dev/null || true
        "${ctl[@]}" restart --no-block "${restart[@]}"
    fi
    if ! wait_until_active; then
        if [[ $was_installed == yes ]] && { ((${#file_changes[@]} > 0)) || [[ $to_build == yes ]]; }; then
            exit $EX_SOFTWARE # on_exit puts back what was there
        fi
        # A first installation stays as it is, and so does one in which only a setting of the person's is wrong: the
        # cause is on the screen, and there is nothing to go back to.
        changing=no
        die $EX_SOFTWARE "Installed, but not running. After mending the cause: ${ctl[*]} restart $SERVICE. To remove it: quadlet/install.sh${system_flag} --uninstall"
    fi
    changing=no
    local ready=yes
    wait_until_ready || ready=no
    print_clients
    print_everyday
    if [[ $ready == no ]]; then exit $EX_UNAVAILABLE; fi
}

print_plan() {
    local name change
    heading "Would be done"
    if [[ $linger == no ]]; then would "loginctl enable-linger $(id -un)"; fi
    for name in "${to_pull[@]}"; do would "podman pull $name"; done
    if [[ $to_build == yes ]]; then would "podman build --format docker${target[*]:+ ${target[*]}} -t $LOCAL_IMAGE $checkout"; fi
    for name in "${new_secrets[@]}"; do would "podman secret create $name (random)"; done
    for change in "${file_changes[@]}"; do
        would "$(printf '%-9s' "${change%% *}") ${change#* }"
        name=${change#* }
        if [[ $change == changed* ]]; then
            diff -u --label installed --label new "$name" "${wanted[$name]}" | detail || true
        fi
    done
    if ((${#file_changes[@]} > 0)); then would "${ctl[*]} daemon-reload"; fi
    if [[ $start == yes ]]; then
        for name in "${services[@]}"; do
            if needs_start "$name"; then would "${ctl[*]} restart $name.service"; fi
        done
    fi
    if [[ -n ${wanted[$plain_dir/cognitive-memory-backup.timer]:-} ]] &&
        ! "${ctl[@]}" is-enabled --quiet cognitive-memory-backup.timer 2> /dev/null; then
        would "${ctl[*]} enable --now cognitive-memory-backup.timer"
    fi
    printf '\nNothing was changed.\n'
}

do_uninstall() {
    local file found=() volumes=() secrets=() name answer
    printf '%sRemoving cognitive-memory-mcp%s for %s\n' "$bold" "$plain" "$who"
    if [[ $scope == system ]] && ((EUID != 0)); then die $EX_UNAVAILABLE "--system needs root."; fi
    if [[ $scope == user ]] && ((EUID == 0)); then die $EX_UNAVAILABLE "You are root: --system, or run it as the user."; fi
    if ! command -v podman > /dev/null; then die $EX_UNAVAILABLE "podman is not installed."; fi
    while read -r file; do if [[ -e $file ]]; then found+=("$file"); fi; done < <(own_files)
    for name in "$DATABASE" cognitive-memory-data; do
        if podman volume exists "$name"; then volumes+=("$name"); fi
    done
    for name in cognitive-memory-tokens cognitive-memory-db-password; do
        if podman secret exists "$name"; then secrets+=("$name"); fi
    done

    if [[ $purge == yes ]]; then
        heading "Will be deleted for good"
        for name in "${volumes[@]}"; do would "volume $name"; done
        for name in "${secrets[@]}"; do would "secret $name"; done
        if [[ -d $backup_dir ]]; then would "backups $backup_dir"; fi
        if [[ $dry_run == no && $yes == no ]]; then
            if [[ ! -t 0 ]]; then die $EX_USAGE "--purge asks before it deletes; without a terminal add --yes. Nothing was changed."; fi
            read -r -p 'Type "purge" to go on: ' answer
            if [[ $answer != purge ]]; then die $EX_USAGE "Nothing was changed."; fi
        fi
    fi
    if [[ $dry_run == yes ]]; then
        heading "Would be done"
        would "${ctl[*]} stop $SERVICE $DATABASE cognitive-memory-backup.timer"
        for file in "${found[@]}"; do would "remove $file"; done
        printf '\nNothing was changed.\n'
        return
    fi

    heading "Removing"
    "${ctl[@]}" disable --quiet --now cognitive-memory-backup.timer 2> /dev/null || true
    "${ctl[@]}" stop "$SERVICE.service" 2> /dev/null || true
    "${ctl[@]}" stop "$DATABASE.service" 2> /dev/null || true
    # A unit which waits between two restarts counts as stopped only after this.
    "${ctl[@]}" reset-failed "$SERVICE.service" "$DATABASE.service" 2> /dev/null || true
    "${ctl[@]}" stop cognitive-memory-{backend,frontend}-network.service cognitive-memory-{postgres,data}-volume.service \
        2> /dev/null || true
    ok "stopped"
    for file in "${found[@]}"; do rm -f "$file"; done
    for name in "$SERVICE" "$DATABASE"; do
        rmdir --ignore-fail-on-non-empty "$unit_dir/$name.container.d" 2> /dev/null || true
        if [[ -d $unit_dir/$name.container.d ]]; then note "your drop-ins stay: $unit_dir/$name.container.d"; fi
    done
    "${ctl[@]}" daemon-reload
    ok "$(count ${#found[@]} file) removed"
    # They hold nothing, and the next installation makes them again.
    podman network rm cognitive-memory-backend cognitive-memory-frontend > /dev/null 2>&1 || true

    if [[ $purge == yes ]]; then
        for name in "${volumes[@]}"; do podman volume rm "$name" > /dev/null; ok "volume $name deleted"; done
        for name in "${secrets[@]}"; do podman secret rm "$name" > /dev/null; ok "secret $name deleted"; done
        if [[ -d $backup_dir ]]; then rm -rf "$backup_dir"; ok "backups deleted"; fi
    else
        heading "Still there"
        for name in "${volumes[@]}"; do would "volume $name: the memory itself"; done
        for name in "${secrets[@]}"; do would "secret $name"; done
        if [[ -d $backup_dir ]]; then would "backups in $backup_dir"; fi
        would "images and lingering"
        printf '\n  quadlet/install.sh%s brings it back with everything in it.\n' "$system_flag"
    fi
}

system_flag=
if [[ $scope == system ]]; then system_flag=' --system'; fi
case $action in
    install) do_install ;;
    uninstall) do_uninstall ;;
esac
