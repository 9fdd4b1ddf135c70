#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Runs in foot: shows a text when it is told to.
dir=$1
stty -echo
printf '\e[?25l'
echo started >"$dir/drawn"
cat "$dir/text"
# The terminal answers when it has parsed what came before
printf '\e[6n'
IFS= read -r -s -dR _
echo shown >"$dir/drawn"
exec sleep infinity
