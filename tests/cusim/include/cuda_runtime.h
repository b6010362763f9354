// cuda_runtime.h - stands in for NVIDIA's header of that name: everything a kernel's file needs.
#pragma once
#include "cuda_runtime_api.h"
#include "cusim_cluster.h"
#include "cusim_device.h"
#include "cusim_launch.h"
#include "cusim_math.h"
#include "cusim_warp.h"
