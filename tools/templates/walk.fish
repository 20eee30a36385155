# Whether the words so far lead to this group, with the subcommand still to come.
function __@FUNCTION@_at
    set -l given (string match -v -- '-*' (commandline -opc)[2..-1])
    test "$given" = "$argv"
end

# Whether the words so far lead to this command.
function __@FUNCTION@_in
    set -l given (string match -v -- '-*' (commandline -opc)[2..-1])
    set -l start $given[1..(count $argv)]
    test "$start" = "$argv"
end
