/* Finds and opens cuBLASLt and cuDNN. */
#include "kernels/cuda/libraries.h"
#include <string.h>

#ifdef CUSIM /* the stand-ins are linked in; one that is made to fail is a library that is missing */
#include <cusim_control.h>

#define TAKE(name) libraries->name = name;

crnn_status crnn_gpu_libraries_open(crnn_gpu_libraries *libraries, crnn_error *err)
{
    memset(libraries, 0, sizeof *libraries);
    if (cusim_call("libcublasLt") != cudaSuccess)
        return crnn_fail(err, CRNN_ERR_DEVICE, "libcublasLt is missing");
    if (cusim_call("libcudnn") != cudaSuccess)
        return crnn_fail(err, CRNN_ERR_DEVICE, "libcudnn is missing");
    CRNN_CUBLASLT_FUNCTIONS(TAKE)
    CRNN_CUDNN_FUNCTIONS(TAKE)
    return CRNN_OK;
}

#else
#include "host/base/escape.h"
#include <dlfcn.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>

#ifndef CRNN_CUDA_LIBRARY_DIRS /* found by the build, with colons between */
#define CRNN_CUDA_LIBRARY_DIRS ""
#endif

#define SONAME_OF(library, major) "lib" #library ".so." #major
#define SONAME(library, major) SONAME_OF(library, major)

static void *open_in(const char *dir, size_t length, const char *soname)
{
    char path[4096];
    int n = snprintf(path, sizeof path, "%.*s/%s", (int)length, dir, soname);
    return n > 0 && (size_t)n < sizeof path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
}

static void *open_in_list(const char *dirs, const char *soname)
{
    void *handle = NULL;
    while (dirs && *dirs && !handle) {
        size_t length = strcspn(dirs, ":");
        if (length)
            handle = open_in(dirs, length, soname);
        dirs += length + (dirs[length] == ':');
    }
    return handle;
}

/* Toolkits beside one another, the newest name last; then the packages that pip installs. */
static void *open_by_pattern(const char *soname)
{
    static const char *const patterns[] = {
        "/usr/local/cuda/lib64",
        "/usr/local/cuda/lib",
        "/usr/local/cuda-*/lib64",
        "/usr/lib/python3*/site-packages/nvidia/*/lib",
        "/usr/local/lib/python3*/*-packages/nvidia/*/lib",
        "~/.local/lib/python3*/site-packages/nvidia/*/lib",
    };
    void *handle = NULL;
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns && !handle; i++) {
        glob_t found;
        if (glob(patterns[i], GLOB_TILDE, NULL, &found))
            continue;
        for (size_t k = found.gl_pathc; k > 0 && !handle; k--)
            handle = open_in(found.gl_pathv[k - 1], strlen(found.gl_pathv[k - 1]), soname);
        globfree(&found);
    }
    return handle;
}

static void *open_library(const char *soname, const char *package, crnn_error *err)
{
    void *handle = open_in_list(getenv("CRNN_CUDA_LIBRARIES"), soname);
    char why[160] = "";
    if (!handle)
        handle = dlopen(soname, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        const char *text = dlerror();
        crnn_escape(why, sizeof why, text ? text : "", text ? strlen(text) : 0, false);
    }
    if (!handle)
        handle = open_in_list(CRNN_CUDA_LIBRARY_DIRS, soname);
    if (!handle)
        handle = open_by_pattern(soname);
    if (!handle)
        crnn_fail(err, CRNN_ERR_DEVICE,
                  "%s cannot be loaded (%s); install %s, or name its folder in CRNN_CUDA_LIBRARIES", soname, why,
                  package);
    return handle;
}

static crnn_status missing(const char *symbol, const char *soname, crnn_error *err)
{
    return crnn_fail(err, CRNN_ERR_DEVICE, "%s is too old: it lacks %s", soname, symbol);
}

#define TAKE(function)                                                                                                 \
    symbol = dlsym(handle, #function);                                                                                 \
    if (!symbol)                                                                                                       \
        return missing(#function, soname, err);                                                                        \
    memcpy(&libraries->function, &symbol, sizeof symbol);

static crnn_status open_cublaslt(crnn_gpu_libraries *libraries, crnn_error *err)
{
    const char *soname = SONAME(cublasLt, CUBLAS_VER_MAJOR);
    void *symbol, *handle = open_library(soname, "cuBLAS of the CUDA toolkit", err);
    if (!handle)
        return CRNN_ERR_DEVICE;
    CRNN_CUBLASLT_FUNCTIONS(TAKE)
    return CRNN_OK;
}

/* libcudnn itself ends the process when one of its parts is missing, so those that are needed are tried first. */
static crnn_status open_cudnn(crnn_gpu_libraries *libraries, crnn_error *err)
{
    static const char *const parts[] = {SONAME(cudnn_graph, CUDNN_MAJOR), SONAME(cudnn_ops, CUDNN_MAJOR),
                                        SONAME(cudnn_adv, CUDNN_MAJOR)};
    const char *soname = SONAME(cudnn, CUDNN_MAJOR), *package = "all of cuDNN 9";
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!open_library(parts[i], package, err))
            return CRNN_ERR_DEVICE;
    void *symbol, *handle = open_library(soname, package, err);
    if (!handle)
        return CRNN_ERR_DEVICE;
    CRNN_CUDNN_FUNCTIONS(TAKE)
    return CRNN_OK;
}

crnn_status crnn_gpu_libraries_open(crnn_gpu_libraries *libraries, crnn_error *err)
{
    memset(libraries, 0, sizeof *libraries);
    crnn_status status = open_cublaslt(libraries, err);
    return status == CRNN_OK ? open_cudnn(libraries, err) : status;
}

#endif
