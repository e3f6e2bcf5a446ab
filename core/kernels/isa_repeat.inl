// Loops over arrays of registers. Unrolled here and not by the compiler: GCC 12 unrolls after it has decided which arrays
// live in registers. Included inside a namespace.

template <int... I>
struct Numbers {};
template <typename F, int... I>
__attribute__((always_inline)) static inline void repeat_each(const F& f, Numbers<I...>) {
  (f.template operator()<I>(), ...);
}
template <int N, int... I>
struct NumbersBelow : NumbersBelow<N - 1, N - 1, I...> {};
template <int... I>
struct NumbersBelow<0, I...> {
  using Type = Numbers<I...>;
};
/// f<0>(), ..., f<N - 1>().
template <int N, typename F>
__attribute__((always_inline)) static inline void repeat(const F& f) {
  repeat_each(f, typename NumbersBelow<N>::Type{});
}
