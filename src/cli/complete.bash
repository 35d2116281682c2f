# shellcheck shell=bash
# What completes ipfloater in bash(1).

_ipfloater() {
    local line=${COMP_LINE:0:COMP_POINT} word IFS=$' \t\n'
    local -a words
    # COMP_WORDS is broken at each colon of an IPv6 address (COMP_WORDBREAKS).
    read -ra words <<<"$line"
    if [[ $line == *[[:space:]] ]]; then
        words+=("")
    fi
    word=${words[-1]}
    mapfile -t COMPREPLY < <(_CLAP_IFS=$'\n' _CLAP_COMPLETE_INDEX=$((${#words[@]} - 1)) \
        COMPLETE=bash ipfloater -- "${words[@]}" 2>/dev/null)
    # Options are offered to who begins one.
    if [[ $word != -* ]]; then
        local -a others=()
        local each
        for each in "${COMPREPLY[@]}"; do
            [[ $each == -* ]] || others+=("$each")
        done
        COMPREPLY=("${others[@]}")
    fi
    # What readline replaces begins behind the last of these.
    if [[ $COMP_WORDBREAKS == *:* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*[:=]}"}"}")
    else
        COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*=}"}"}")
    fi
    # Ports follow an address and its colon, a value an option.
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[:=] ]]; then
        compopt -o nospace
    fi
}

complete -o bashdefault -o nosort -F _ipfloater ipfloater
