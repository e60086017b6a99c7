#!/usr/bin/env bash
# Step "Comment" of action.yml: one comment on the pull request, created the first time and updated after that. It is found
# by a marker in its first line and by its author, so that no other user's comment is ever taken for it.
set -euo pipefail

main() {
    work=$RUNNER_TEMP/syncline-comment
    rm -rf "$work" && mkdir -p "$work"
    comments=repos/$GITHUB_REPOSITORY/issues/$PULL_REQUEST/comments
    one_comment=repos/$GITHUB_REPOSITORY/issues/comments
    # The marker is the one of the plan itself; a rejected config has no plan, and gets the same comment.
    marker="<!-- syncline plan $(plain "${INPUT_CONFIG:-sync.yaml}")${INPUT_ENV:+ $(plain "$INPUT_ENV")} -->"
    write_body
    find_comments >"$work/ids"
    local id duplicate
    id=$(head -n 1 "$work/ids")
    if [ -z "$id" ]; then
        # Not repeated after an error: the first request may have created it.
        api POST "$comments" "$work/body.json"
        echo "created the comment on pull request $PULL_REQUEST"
        return
    fi
    api PATCH "$one_comment/$id" "$work/body.json"
    echo "updated the comment $id on pull request $PULL_REQUEST"
    # Two runs at once may both have created one. An outdated plan must not stay.
    for duplicate in $(tail -n +2 "$work/ids"); do api DELETE "$one_comment/$duplicate"; done
}

plain() { printf '%s' "$1" | tr -cd 'A-Za-z0-9._/'; }

write_body() {
    {
        printf '%s\n' "$marker"
        sed '1{/^<!-- syncline plan /d;}' "$PLAN_FILE"
        printf '\n<sub>commit %s, [log](%s/%s/actions/runs/%s)</sub>\n' "$HEAD_SHA" "$GITHUB_SERVER_URL" "$GITHUB_REPOSITORY" "$GITHUB_RUN_ID"
    } >"$work/body"
    jq --raw-input --slurp '{ body: . }' "$work/body" >"$work/body.json"
}

# The ids of our comments, oldest first.
find_comments() {
    local page=1
    while :; do
        api GET "$comments?per_page=100&page=$page"
        jq --raw-output --arg marker "$marker" --arg author "$INPUT_COMMENT_AUTHOR" \
            '.[] | select(.user.login == $author and (.body | startswith($marker))) | .id' "$work/response"
        [ "$(jq length "$work/response")" = 100 ] || break
        page=$((page + 1))
    done
}

# One request to GitHub's API; the response is in $work/response. The token is not in the arguments, which other processes see.
api() {
    local method=$1 path=$2 body=${3:-} options=() status
    if [ "$method" != POST ]; then options+=(--retry 3); fi
    if [ -n "$body" ]; then options+=(--data-binary "@$body"); fi
    status=$(curl --silent --show-error --max-time 30 --request "$method" --output "$work/response" --write-out '%{http_code}' \
        --header @<(printf 'Authorization: Bearer %s\n' "$TOKEN") --header 'Accept: application/vnd.github+json' \
        --header 'Content-Type: application/json' --header 'X-GitHub-Api-Version: 2022-11-28' \
        ${options[@]+"${options[@]}"} "$GITHUB_API_URL/$path") || status=000
    case $status in
        2??) return ;;
        401 | 403 | 404) remedy="give the job the permission \`pull-requests: write\`" ;;
        *) remedy='the step summary has the plan; run the job again' ;;
    esac
    # GitHub's message is foreign text: one short line without control characters.
    local message
    message=$(jq --raw-output '.message // empty' "$work/response" 2>/dev/null | tr -cd '[:print:]' | head -c 200) || true
    echo "::error title=syncline::cannot write the comment: $method gave status $status${message:+, $message}; $remedy" >&2
    exit 1
}

main
