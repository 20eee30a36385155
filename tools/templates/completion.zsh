#compdef @NAME@

# zsh completion for @NAME@. Written by tools/completions.py from the command tree; do not edit.

@FUNCTIONS@
# What `callmeter __complete KIND` prints. Only plain words are offered: the shell would run what others contain.
_@NAME@_values() {
  local -a values
  values=(${(f)"$(command callmeter __complete $1 2>/dev/null)"})
  values=(${(M)values:#[A-Za-z0-9]##[A-Za-z0-9._@/+-]#})
  _wanted values expl $1 compadd -a values
}

_@NAME@_template() {
  _@NAME@_values template || _files
}

# Autoloaded under its own name, this file is the function; sourced, it registers it.
if [[ $funcstack[1] == _@NAME@ ]]; then
  _@NAME@ "$@"
else
  compdef _@NAME@ @NAME@
fi
