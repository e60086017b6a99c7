#!/usr/bin/env bash
# Step "Run" of action.yml: runs one command and writes the step summary and the outputs. It succeeds even if the command
# fails; the step "Result" ends with the exit code.
#
# What a caller or a pull request chooses arrives as variables and is never part of a script's text.
set -euo pipefail

main() {
    work=$RUNNER_TEMP/syncline-run
    rm -rf "$work" && mkdir -p "$work"
    : >"$work/stdout" && : >"$work/stderr"
    command=$INPUT_COMMAND refusal='' notice=''
    choose_command
    if [ -n "$refusal" ]; then
        code=64
        printf 'error: %s\n' "$refusal" >"$work/stderr"
        annotate error "$refusal"
    else
        run_command
    fi
    choose_result
    report >"$work/report"
    # GitHub's limit for the summary of a step is 1 MiB.
    cut_to 1000000 <"$work/report" >>"$GITHUB_STEP_SUMMARY"
    write_outputs
}

# Decides what may run for this event.
choose_command() {
    case $command in
        plan | reconcile | check) ;;
        *) refusal="unknown command \`$command\`: use plan, reconcile or check" ;;
    esac
    case $INPUT_ON_BLOCKED in
        fail | warn) ;;
        *) refusal="unknown value \`$INPUT_ON_BLOCKED\` of \`on-blocked\`: use fail or warn" ;;
    esac
    [ -n "$PULL_REQUEST" ] || return 0
    if [ "$HEAD_REPOSITORY" != "$GITHUB_REPOSITORY" ] || [ "${GITHUB_ACTOR:-}" = 'dependabot[bot]' ]; then
        # Its author may be anyone on the internet. Even where a workflow has secrets, they are not for this config.
        command=validate
        notice="The config of a pull request from a fork or a bot is only validated: it gets no secrets, so there is no $INPUT_COMMAND."
        annotate notice "$notice"
    elif [ -z "$INPUT_TRUSTED_CONFIG" ] && [ "$GITHUB_EVENT_NAME" = pull_request_target ]; then
        refusal="on pull_request_target, set \`trusted-config\` to the config of the base branch: see SECURITY.md"
    elif [ -z "$INPUT_TRUSTED_CONFIG" ]; then
        annotate warning "without \`trusted-config\`, this pull request's config chooses the servers that get the secrets: see SECURITY.md"
    fi
}

# Prints one annotation of the runner.
annotate() {
    local text=${2//'%'/%25}
    text=${text//$'\r'/%0D}
    printf '::%s title=syncline::%s\n' "$1" "${text//$'\n'/%0A}"
}

run_command() {
    local call=(syncline "$command") line
    [ -z "$INPUT_CONFIG" ] || call+=(--config "$INPUT_CONFIG")
    [ -z "$INPUT_TRUSTED_CONFIG" ] || call+=(--trusted-config "$INPUT_TRUSTED_CONFIG")
    [ -z "$INPUT_ENV" ] || call+=(--env "$INPUT_ENV")
    case $command in
        plan) call+=(--format markdown --detailed-exitcode) ;;
        check) call+=(--format github) ;;
    esac
    if [ "$command" != validate ]; then
        while IFS= read -r line; do [ -z "$line" ] || call+=("$line"); done <<<"$INPUT_ARGUMENTS"
    fi
    # The runner must not take lines of the output for its own commands, except the annotations of `check`.
    local token
    token=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    echo "::stop-commands::$token"
    call_program "${call[@]}"
    [ "$command" = check ] || cat "$work/stdout"
    echo "::$token::"
    [ "$command" != check ] || cat "$work/stdout"
}

# Runs the program with its log on stderr, and passes a cancellation on to it: it stops between two requests.
call_program() {
    local log program
    mkfifo "$work/fifo"
    tee "$work/stderr" <"$work/fifo" >&2 &
    log=$!
    "$@" >"$work/stdout" 2>"$work/fifo" &
    program=$!
    trap 'kill -TERM "$program" 2>/dev/null || true' INT TERM
    code=0 && wait "$program" || code=$?
    # A signal ends `wait`, not the program.
    while kill -0 "$program" 2>/dev/null; do code=0 && wait "$program" || code=$?; done
    trap - INT TERM
    wait "$log" || true
}

# The word for scripts, as in the program's JSON; and the exit code of the job.
choose_result() {
    status=$code
    case $code in
        0 | 2) result=$(result_of_success) ;;
        3) result=invalid_config ;;
        4) result=credentials ;;
        5) result=unavailable ;;
        6) result=blocked ;;
        7) result=applied_in_part ;;
        8) result=held ;;
        9) result=stale ;;
        10) result=drifted ;;
        64) result=usage ;;
        130 | 143) result=stopped ;;
        *) result=failed ;;
    esac
    # Pending changes are what a plan is for.
    [ "$code" != 2 ] || status=0
    # Without a plan the config was rejected, which no reviewer may overlook.
    if [ "$code" = 6 ] && [ "$INPUT_ON_BLOCKED" = warn ] && has_plan; then
        status=0
        annotate warning "the guard would block a change; see the plan"
    fi
}

result_of_success() {
    case $command in
        validate) echo valid ;;
        plan) if [ "$code" = 2 ]; then echo changes; else echo in_sync; fi ;;
        check) echo in_sync ;;
        reconcile) if tail -n 1 "$work/stdout" | grep -q '^In sync:'; then echo in_sync; else echo applied; fi ;;
    esac
}

has_plan() { [ "$command" = plan ] && [ -s "$work/stdout" ]; }

# What the summary and the comment show, as Markdown. Indented text cannot end its block, unlike text between fences.
report() {
    if has_plan; then
        cat "$work/stdout"
    else
        printf '## syncline %s\n\n**%s** (exit code %s)\n' "$command" "${result//_/ }" "$code"
        [ -z "$notice" ] || printf '\n%s\n' "$notice"
        if [ -s "$work/stdout" ]; then printf '\n' && plain_text <"$work/stdout"; fi
    fi
    if [ "$status" != 0 ] && [ -s "$work/stderr" ]; then printf '\n' && tail -n 50 "$work/stderr" | sed 's/^/    /'; fi
}

# Annotations of `check` as lines of text.
plain_text() { sed -e 's/^::\([a-z]*\) file=/\1: /' -e 's/%0A/ · /g' -e 's/%25/%/g' -e 's/^/    /'; }

# At most this many bytes of the text, in whole lines.
cut_to() {
    local limit=$1 text
    text=$(mktemp "$work/text.XXXXXX")
    cat >"$text"
    if [ "$(wc -c <"$text")" -le "$limit" ]; then cat "$text" && return; fi
    # Without the last, possibly incomplete line.
    head -c "$limit" "$text" | sed '$d' >"$text.cut"
    cat "$text.cut"
    [ "$(grep -c '^<details>' "$text.cut")" = "$(grep -c '^</details>' "$text.cut")" ] || printf '\n</details>\n'
    printf '\n**Truncated.** The log of the job has the whole text.\n'
}

write_outputs() {
    local digest=''
    # shellcheck disable=SC2016 # Markdown's backticks
    if has_plan; then digest=$(sed -n 's/^- digest: `\(sha256:[0-9a-f]\{64\}\)`$/\1/p' "$work/stdout"); fi
    if [ "$command" = plan ] && [ -n "$PULL_REQUEST" ] && [ "$INPUT_COMMENT" = true ]; then
        # GitHub's limit for a comment is 65,536 characters. A plan fits; an error log may not, and this counts bytes.
        cut_to 60000 <"$work/report" >"$work/comment"
        # shellcheck disable=SC2016 # Markdown's backticks
        if [ -n "$digest" ] && ! grep -q "$digest" "$work/comment"; then printf '\n- digest: `%s`\n' "$digest" >>"$work/comment"; fi
        echo "comment=$work/comment" >>"$GITHUB_OUTPUT"
    fi
    {
        echo "result=$result"
        echo "digest=$digest"
        echo "exit-code=$code"
        echo "status=$status"
    } >>"$GITHUB_OUTPUT"
}

main
