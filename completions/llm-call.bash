# bash completion for llm-call. Written by tools/completions.py from the command tree; do not edit.

# What may follow a command: subcommands, options, operands. `:` after an option means that it takes a value, and
# says of what kind: `file`, words with commas between, `@KIND` for what `callmeter __complete KIND` prints, or
# nothing; `::` means two values.
_llm_call_spec() {
    commands='' options='' operands=''
    case $1 in
    'llm-call')
        options='-f:file --file:file -s: --system: -a:file --attachment:file -m:@model --model:@model --fallback-model:@model --max-tokens: -o:: --option:: --schema:file -x --extract -t:@template --template:@template -p:: --param:: -c --continue --conversation: --cid: --no-stream --provider:@provider --base-url: --key:@key --agent:@agent --caller:@agent --session:@session --purpose:@purpose --priority:@priority --environment:@environment --cost-center:@cost_center --work-item:@work_item --customer:@customer --user:@user --workflow:@workflow --tag: --send-tags --no-send-tags --dry-run --max-cost: --timeout: --connect-timeout: --retries: --wait: --wait-approval: --idempotency-key: --strict --batch:file --concurrency: --as-completed --log:file -u --usage --no-usage --json -q --quiet -v --verbose -h --help'
        ;;
    esac
}

_llm_call() {
    local IFS=$' \t\n'
    local rest=${COMP_LINE:0:COMP_POINT} words=() i part
    local path=llm-call commands options operands taking=0 kind='' dashes='' word entry
    COMPREPLY=()

    # The words as the command will see them: readline splits at `=`, `:` and `@` too.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        part=${COMP_WORDS[i]}
        if [[ $i == 0 || $rest == [[:space:]]* ]]; then
            rest=${rest#"${rest%%[![:space:]]*}"}
            words+=('')
        fi
        ((i == COMP_CWORD)) && part=$rest
        words[${#words[@]} - 1]+=$part
        rest=${rest:${#part}}
    done
    local value=${words[${#words[@]} - 1]} option=''

    # Where they lead: to a group, to a command, to the value of an option.
    _llm_call_spec "$path"
    for word in "${words[@]:1:${#words[@]}-2}"; do
        if ((taking)); then
            ((taking -= 1))
            kind=''
        elif [[ -n $commands ]]; then
            [[ $word == -* ]] && continue
            path+=" $word"
            _llm_call_spec "$path"
        elif [[ $word == -- ]]; then
            dashes=1
        elif [[ $word == -* && -z $dashes && " $options " == *" $word:"* ]]; then
            kind=" $options "
            kind=${kind#*" $word:"}
            kind=${kind%% *}
            taking=1
            [[ $kind == :* ]] && taking=2
        fi
    done

    if ((taking)); then
        [[ $kind == :* ]] && kind=''
    elif [[ $value == --*=* && -z $dashes ]]; then
        kind=" $options "
        [[ $kind == *" ${value%%=*}:"* ]] || return
        kind=${kind#*" ${value%%=*}:"}
        kind=${kind%% *}
        option=${value%%=*}=
        value=${value#*=}
    elif [[ -n $commands && $value != -* ]]; then
        kind=${commands// /,}
    elif [[ -z $dashes && ($value == -* || (-z $value && -z $operands)) ]]; then
        kind=''
        for entry in $options; do
            kind+=${kind:+,}${entry%%:*}
        done
    else
        kind=$operands
    fi
    _llm_call_offer "$kind" "$value" "$option"
}

# Fill COMPREPLY with what begins like the value, which stands after `--option=` or alone. Nothing here is expanded or evaluated, and of what comes from
# outside (agents, models, …) only plain words are offered: the shell would run what they contain.
_llm_call_offer() {
    local LC_ALL=C # what [A-Z] means
    # Readline replaces only what stands after the last break, with the `@` if it is one.
    local candidates candidate head=$3$2
    head=${head%"${head##*["${COMP_WORDBREAKS:- }"]}"}
    head=${head%@}
    case $1 in
    '') return ;;
    file)
        compopt -o default 2>/dev/null
        return
        ;;
    @*) candidates=$(command callmeter __complete "${1#@}" 2>/dev/null) ;;
    *) candidates=${1//,/$'\n'} ;;
    esac
    while IFS= read -r candidate; do
        [[ $candidate == [A-Za-z0-9-]* && $candidate != *[!A-Za-z0-9._@/+-]* ]] || continue
        [[ $candidate == "$2"* ]] && candidate=$3$candidate && COMPREPLY+=("${candidate#"$head"}")
    done <<<"$candidates"
    [[ $1 == @template && ${#COMPREPLY[@]} == 0 ]] && compopt -o default 2>/dev/null
}

complete -F _llm_call llm-call
