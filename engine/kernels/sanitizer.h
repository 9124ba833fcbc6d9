// What a sanitizer of addresses has to know of fibers, declared outside of the builds' namespaces;
// its headers are not needed for that. ci/sanitizers.sh builds this way.
#pragma once

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LOCKSTEP_ADDRESS_SANITIZER 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define LOCKSTEP_ADDRESS_SANITIZER 1
#endif

#if defined(LOCKSTEP_ADDRESS_SANITIZER)
extern "C" {
void __sanitizer_start_switch_fiber(void** kept, const void* bottom, unsigned long bytes);
void __sanitizer_finish_switch_fiber(void* kept, const void** bottom, unsigned long* bytes);
void __asan_unpoison_memory_region(const volatile void* address, unsigned long bytes);
}
#endif
