# bash completion for callmeter. Written by tools/completions.py from the command tree; do not edit.

# What may follow a command: subcommands, options, operands. `:` after an option means that it takes a value, and
# says of what kind: `file`, words with commas between, `@KIND` for what `callmeter __complete KIND` prints, or
# nothing; `::` means two values.
_callmeter_spec() {
    commands='' options='' operands=''
    case $1 in
    'callmeter')
        commands='llm-call budget prices config local doctor demo'
        options='--version -h --help'
        ;;
    'callmeter llm-call')
        options='-f:file --file:file -s: --system: -a:file --attachment:file -m:@model --model:@model --fallback-model:@model --max-tokens: -o:: --option:: --schema:file -x --extract -t:@template --template:@template -p:: --param:: -c --continue --conversation: --cid: --no-stream --provider:@provider --base-url: --key:@key --agent:@agent --caller:@agent --session:@session --purpose:@purpose --priority:@priority --environment:@environment --cost-center:@cost_center --work-item:@work_item --customer:@customer --user:@user --workflow:@workflow --tag: --send-tags --no-send-tags --dry-run --max-cost: --timeout: --connect-timeout: --retries: --wait: --wait-approval: --idempotency-key: --strict --batch:file --concurrency: --as-completed --log:file -u --usage --no-usage --json -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget')
        commands='status watch breakdown report forecast anomalies savings value outcome tags metrics quota policy request requests approve deny freeze thaw alerts recover keys rotate-key log audit'
        options='-h --help'
        ;;
    'callmeter budget status')
        options='--as-of: --log:file --watch --format:text,json,jsonl,csv,tsv,markdown -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget watch')
        options='--agent:@agent --where: --interval: --log:file -h --help'
        ;;
    'callmeter budget breakdown')
        options='--by-agent --by-purpose --by-model --by-session --by-day --by-week --by-month --by-hour --by-key --by-environment --by-work-item --by:@tag --where: --top: --sort:cost,calls,tokens,name,latency,errors,change --compare: --percentiles --cumulative --chart --since: --until: --last: --month: --today --yesterday --this-week --last-week --this-month --last-month --as-of: --log:file --format:text,json,jsonl,csv,tsv,markdown -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget report')
        options='--weekly --monthly --daily --out:file --mail-to: --as-of: --log:file --format:text,markdown,html,json,jsonl,csv,tsv -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget forecast')
        options='--next-week --next-month --days: --to-period-end --by-agent --by-purpose --by-model --by:@tag --top: --fail-if-over: --backtest --as-of: --log:file --format:text,json,jsonl,csv,tsv,markdown -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget anomalies')
        options='--by:@tag --floor: --fail-if-any --record --no-record --where: --since: --until: --last: --month: --today --yesterday --this-week --last-week --this-month --last-month --as-of: --log:file --format:text,json,jsonl,csv,tsv,markdown -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget savings')
        options='--to:@model --top: --since: --until: --last: --month: --today --yesterday --this-week --last-week --this-month --last-month --as-of: --log:file --format:text,json,jsonl,csv,tsv,markdown -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget value')
        options='--top: --since: --until: --last: --month: --today --yesterday --this-week --last-week --this-month --last-month --as-of: --log:file --format:text,json,jsonl,csv,tsv,markdown -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget outcome')
        commands='record list'
        options='-h --help'
        ;;
    'callmeter budget outcome record')
        options='--work-item:@work_item --value: --accepted --rejected --agent:@agent --purpose:@purpose --customer:@customer --note: --at: --id: --corrects: --from:file -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget outcome list')
        options='--work-item:@work_item --since: --until: --last: --month: --today --yesterday --this-week --last-week --this-month --last-month --as-of: --format:text,json,jsonl,csv,tsv,markdown -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget tags')
        options='--known: --fail-if-any --where: --since: --until: --last: --month: --today --yesterday --this-week --last-week --this-month --last-month --as-of: --log:file --format:text,json,jsonl,csv,tsv,markdown -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget metrics')
        options='--top: --out:file --log:file --format:prometheus,openmetrics,json -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget quota')
        commands='set unset show left check explain suggest allocate sync guarantees'
        options='-h --help'
        ;;
    'callmeter budget quota set')
        options='--period:second,minute,hour,day,week,month,year,life --unit:usd,tokens,calls --soft --hard --showback --stage: --warn-at: --reserve: -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget quota unset')
        options='--period:second,minute,hour,day,week,month,year,life --unit:usd,tokens,calls -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget quota show')
        options='--top: --format:text,json,jsonl,csv,tsv,markdown -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget quota left')
        options='--agent:@agent --caller:@agent --session:@session --purpose:@purpose --priority:@priority --environment:@environment --cost-center:@cost_center --work-item:@work_item --customer:@customer --user:@user --workflow:@workflow --tag: -m:@model --model:@model --provider:@provider --key:@key --at-least: --json -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget quota check')
        options='--prompt-size: -m:@model --model:@model --max-tokens: --provider:@provider --base-url: --key:@key --agent:@agent --caller:@agent --session:@session --purpose:@purpose --priority:@priority --environment:@environment --cost-center:@cost_center --work-item:@work_item --customer:@customer --user:@user --workflow:@workflow --tag: --json -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget quota explain')
        options='--prompt-size: -m:@model --model:@model --max-tokens: --provider:@provider --base-url: --key:@key --agent:@agent --caller:@agent --session:@session --purpose:@purpose --priority:@priority --environment:@environment --cost-center:@cost_center --work-item:@work_item --customer:@customer --user:@user --workflow:@workflow --tag: --format:text,json,jsonl,csv,tsv,markdown -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget quota suggest')
        options='--by:@tag --period:day,week,month --unit:usd,tokens,calls --apply -y --yes --as-of: --log:file --format:text,json,jsonl,csv,tsv,markdown -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget quota allocate')
        options='--strategy:equal_base_plus_merit,role_based,dynamic --base: --merit-pool: --weight: --merit:value,outputs --last: --agents: --role: --shared-pool: --pool: --cap: --apply -y --yes --format:text,json,jsonl,csv,tsv,markdown -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget quota sync')
        options='--apply --check --format:text,json,jsonl,csv,tsv,markdown -q --quiet -v --verbose -h --help'
        operands='@key'
        ;;
    'callmeter budget quota guarantees')
        options='--format:text,json,jsonl,csv,tsv,markdown -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget policy')
        commands='check show'
        options='-h --help'
        ;;
    'callmeter budget policy check')
        options='--format:text,json,jsonl,csv,tsv,markdown -q --quiet -v --verbose -h --help'
        operands='file'
        ;;
    'callmeter budget policy show')
        options='--agent:@agent --session:@session --purpose:@purpose --user:@user --tag: --model:@model --key:@key --provider:@provider --schema --format:text,json,jsonl,csv,tsv,markdown -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget request')
        options='--reason: --period:second,minute,hour,day,week,month,year,life -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget requests')
        options='--all --format:text,json,jsonl,csv,tsv,markdown -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget approve')
        options='--amount: --for: --until: --calls: --reason: -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget deny')
        options='--reason: -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget freeze')
        options='--reason: --for: --until: -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget thaw')
        options='--reason: -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget alerts')
        options='--flush --format:text,json,jsonl,csv,tsv,markdown -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget recover')
        options='--check --rebuild --accept-clock --format:text,json,jsonl,csv,tsv,markdown -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget keys')
        commands='add list show create import audit move rename exec retire remove'
        options='-h --help'
        ;;
    'callmeter budget keys add')
        options='--label:@key --provider:@provider --base-url: --environment:@environment --owner: --purpose:@purpose --models: --expires: --default --user:@user --rotate-every: --management --replace --shared --store: --existing --stdin --fd: -q --quiet -v --verbose -h --help'
        operands='@agent'
        ;;
    'callmeter budget keys list')
        options='--format:text,json,jsonl,csv,tsv,markdown -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget keys show')
        options='--user:@user --format:text,json,jsonl,csv,tsv,markdown -q --quiet -v --verbose -h --help'
        operands='@key'
        ;;
    'callmeter budget keys create')
        options='--user:@user --tier: --reset:daily,weekly,monthly,never --label:@key --provider:@provider --environment:@environment --owner: --purpose:@purpose --models: --expires: --store: -q --quiet -v --verbose -h --help'
        operands='@agent'
        ;;
    'callmeter budget keys import')
        options='--provider:@provider --base-url: --dry-run --format:text,json,jsonl,csv,tsv,markdown -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget keys audit')
        options='--fix --fail-if-any --format:text,json,jsonl,csv,tsv,markdown -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget keys move')
        options='-q --quiet -v --verbose -h --help'
        operands='@key'
        ;;
    'callmeter budget keys rename')
        options='-q --quiet -v --verbose -h --help'
        operands='@key'
        ;;
    'callmeter budget keys exec')
        options='--provider:@provider --environment:@environment --session:@session --purpose:@purpose -q --quiet -v --verbose -h --help'
        operands='@agent'
        ;;
    'callmeter budget keys retire')
        options='-q --quiet -v --verbose -h --help'
        operands='@key'
        ;;
    'callmeter budget keys remove')
        options='--keep-secret -y --yes -q --quiet -v --verbose -h --help'
        operands='@key'
        ;;
    'callmeter budget rotate-key')
        options='--due --all --agent:@agent --owner: --user:@user --status --resume --rollback --now --grace: --cut-off --delete-old --expires: --try:@model --paste --revoked --dry-run --format:text,json,jsonl,csv,tsv,markdown -q --quiet -v --verbose -h --help'
        operands='@key'
        ;;
    'callmeter budget log')
        commands='show verify close prune'
        options='-h --help'
        ;;
    'callmeter budget log show')
        options='-n: --lines: --follow --status:ok,error,refused,cancelled,timeout,truncated,unknown --where: --since: --until: --last: --month: --today --yesterday --this-week --last-week --this-month --last-month --as-of: --log:file --format:text,json,jsonl,csv,tsv,markdown -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget log verify')
        options='--log:file --format:text,json,jsonl,csv,tsv,markdown -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget log close')
        options='--before: --all --log:file --format:text,json,jsonl,csv,tsv,markdown -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget log prune')
        options='--keep: --dry-run --force --log:file --format:text,json,jsonl,csv,tsv,markdown -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget audit')
        commands='show head verify'
        options='-h --help'
        ;;
    'callmeter budget audit show')
        options='-n: --lines: --event: --since: --until: --last: --as-of: --format:text,json,jsonl,csv,tsv,markdown -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget audit head')
        options='--json -q --quiet -v --verbose -h --help'
        ;;
    'callmeter budget audit verify')
        options='--anchor: --log:file --format:text,json,jsonl,csv,tsv,markdown -q --quiet -v --verbose -h --help'
        ;;
    'callmeter prices')
        commands='show refresh set'
        options='-h --help'
        ;;
    'callmeter prices show')
        options='--provider:@provider --as-of: --format:text,json,jsonl,csv,tsv,markdown -q --quiet -v --verbose -h --help'
        operands='@model'
        ;;
    'callmeter prices refresh')
        options='--provider:@provider --base-url: -q --quiet -v --verbose -h --help'
        ;;
    'callmeter prices set')
        options='--input: --output: --cached: --cache-write: --cache-write-1h: --reasoning: --request: --per:million,token --provider:@provider --remove -q --quiet -v --verbose -h --help'
        operands='@model'
        ;;
    'callmeter config')
        commands='show'
        options='-h --help'
        ;;
    'callmeter config show')
        options='--format:text,json,jsonl,csv,tsv,markdown -q --quiet -v --verbose -h --help'
        ;;
    'callmeter local')
        commands='serve status stop'
        options='-h --help'
        ;;
    'callmeter local serve')
        options='--host: --port: --model:file --idle: -q --quiet -v --verbose -h --help'
        ;;
    'callmeter local status')
        options='--format:text,json,jsonl,csv,tsv,markdown -q --quiet -h --help'
        ;;
    'callmeter local stop')
        options='-q --quiet -v --verbose -h --help'
        ;;
    'callmeter doctor')
        options='--format:text,json,jsonl,csv,tsv,markdown -q --quiet -v --verbose -h --help'
        ;;
    'callmeter demo')
        options='-h --help'
        ;;
    esac
}

_callmeter() {
    local IFS=$' \t\n'
    local rest=${COMP_LINE:0:COMP_POINT} words=() i part
    local path=callmeter commands options operands taking=0 kind='' dashes='' word entry
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
    _callmeter_spec "$path"
    for word in "${words[@]:1:${#words[@]}-2}"; do
        if ((taking)); then
            ((taking -= 1))
            kind=''
        elif [[ -n $commands ]]; then
            [[ $word == -* ]] && continue
            path+=" $word"
            _callmeter_spec "$path"
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
    _callmeter_offer "$kind" "$value" "$option"
}

# Fill COMPREPLY with what begins like the value, which stands after `--option=` or alone. Nothing here is expanded or evaluated, and of what comes from
# outside (agents, models, …) only plain words are offered: the shell would run what they contain.
_callmeter_offer() {
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

complete -F _callmeter callmeter
