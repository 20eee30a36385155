# fish completion for @NAME@. Written by tools/completions.py from the command tree; do not edit.

@WALK@# What `callmeter __complete KIND` prints. Only plain words are offered: the shell would run what others contain.
function __@FUNCTION@_values
    command callmeter __complete $argv[1] 2>/dev/null | string match -r '^[A-Za-z0-9][A-Za-z0-9._@/+-]*$'
end

complete -c @NAME@ -f
@LINES@
