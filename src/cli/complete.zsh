#compdef ipfloater
# What completes ipfloater in zsh(1): a file of its $fpath, or to be sourced.

_ipfloater() {
    local -a lines open whole
    local line
    lines=("${(@f)$(_CLAP_IFS=$'\n' _CLAP_COMPLETE_INDEX=$((CURRENT - 1)) \
        COMPLETE=zsh ipfloater -- "${words[@]}" 2>/dev/null)}")
    for line in $lines; do
        # Options are offered to who begins one.
        [[ $line == -* && ${words[CURRENT]} != -* ]] && continue
        # A word, `:`, and what is said of it. The word's own colons are `\:`.
        if [[ $line == *\\:(|:*) ]]; then
            # Ports follow.
            open+=("$line")
        else
            whole+=("$line")
        fi
    done
    [[ -n $open ]] && _describe -V values open -S ''
    [[ -n $whole ]] && _describe -V values whole
}

# The first time zsh runs the file as the function that it defines.
if [[ $funcstack[1] == _ipfloater ]]; then
    _ipfloater "$@"
else
    compdef _ipfloater ipfloater
fi
