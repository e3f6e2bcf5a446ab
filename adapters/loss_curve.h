/// Losses for the eye: one line of blocks, a small plot, and how long there is to go. Text in UTF-8.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace covey::adapters {

/// (step, loss)
using LossPoint = std::pair<std::int64_t, double>;

/// The last `width` means of equal runs of `losses` as blocks of eight heights, scaled between their least and their
/// largest. Losses that are not finite are left out.
std::string sparkline(std::span<const double> losses, int width);

/// A plot of `width` x `height` characters with its axes' ends: `training` as dots (each column the mean of its steps),
/// `held_out` as o. Empty where fewer than two points are finite.
std::string loss_plot(std::span<const LossPoint> training, std::span<const LossPoint> held_out, int width, int height);

/// "0:42", "12:05", "3:07:09"; "?" where it is not known (negative or not finite).
std::string duration_text(double seconds);

}  // namespace covey::adapters
