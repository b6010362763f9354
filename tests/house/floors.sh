#!/bin/sh
# floors.sh ROOT - a file includes only its own floor or lower ones; prints each include that does not, status 1 then.
#
# F6 host/cli sees <crnn/*.h> alone. F1 data and F3 kernels do not know each other. Above F3 the kernels are reached through
# kernels/backend.h only. A device knows no other device. oneDNN is named in one file. Public headers include public headers.
set -eu
cd "$1"
find include src -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' | sort | xargs awk '
    function floor_of(path) {
        if (path ~ /^host\/base\//) return "base"
        if (path ~ /^host\/data\//) return "data"
        if (path ~ /^host\/tensors\//) return "tensors"
        if (path ~ /^kernels\//) return "kernels"
        if (path ~ /^host\/model\//) return "model"
        if (path ~ /^host\/train\//) return "train"
        if (path ~ /^host\/cli\//) return "cli"
        return "outside"
    }
    function device_of(path) { return path ~ /^kernels\/[^\/]*\// ? substr(path, 9, index(substr(path, 9), "/") - 1) : "" }
    function bad(why) { printf "%s:%d: %s: %s\n", FILENAME, FNR, $0, why; failed = 1 }
    BEGIN {
        sees["base"] = " base "
        sees["data"] = " base data "
        sees["tensors"] = " base data tensors "
        sees["kernels"] = " base tensors kernels "
        sees["model"] = " base data tensors kernels model "
        sees["train"] = " base data tensors kernels model train "
        sees["cli"] = " cli "
    }
    /^[ \t]*#[ \t]*include[ \t]*"/ {
        split($0, part, "\"")
        target = part[2]
        if (FILENAME ~ /^include\//) { bad("a public header includes <crnn/...> and the C library only"); next }
        file = substr(FILENAME, 5)
        from = floor_of(file)
        to = floor_of(target)
        if (from == "outside") bad("the file stands on no floor")
        else if (to == "outside") bad("write the path from src/, as in \"host/base/memory.h\"")
        else if (index(sees[from], " " to " ") == 0) bad("floor " from " may not see " to)
        else if (to == "kernels" && from != "kernels" && target != "kernels/backend.h") bad("the door is kernels/backend.h")
        else if (device_of(target) != "" && device_of(file) != "" && device_of(file) != device_of(target))
            bad("one device may not see another")
        next
    }
    /^[ \t]*#[ \t]*include[ \t]*<.*dnnl/ && FILENAME != "src/kernels/cpu/onednn.c" && FILENAME != "src/kernels/cpu/onednn.h" {
        bad("oneDNN belongs to src/kernels/cpu/onednn.c")
    }
    /^[ \t]*#[ \t]*include[ \t]*<(cuda|cublas|cudnn|curand)/ && FILENAME !~ /^src\/kernels\/cuda\// {
        bad("CUDA belongs to src/kernels/cuda")
    }
    END { exit failed }
'
