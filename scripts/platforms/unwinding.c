// What gcc's unwinder needs of libc, for a static program on musl.
#define _GNU_SOURCE
#include <link.h>
#include <pthread.h>

// The unwinder refers to these weakly, and calls them without a check. A weak reference takes nothing from a static libc.
__attribute__((used)) static void *const needed[] = {
    (void *)pthread_once,        (void *)pthread_key_create,  (void *)pthread_getspecific,
    (void *)pthread_setspecific, (void *)pthread_mutex_lock,  (void *)pthread_mutex_unlock,
};

// As in glibc's <dlfcn.h>, on x86-64.
struct dl_find_object {
    unsigned long long flags;
    void *map_start, *map_end, *link_map, *eh_frame;
    unsigned long long reserved[7];
};

struct search {
    ElfW(Addr) pc;
    struct dl_find_object *found;
};

static int look_into(struct dl_phdr_info *object, size_t size, void *data) {
    struct search *search = data;
    void *eh_frame = 0;
    int is_inside = 0;
    (void)size;
    for (const ElfW(Phdr) *part = object->dlpi_phdr; part < object->dlpi_phdr + object->dlpi_phnum; part++) {
        ElfW(Addr) start = object->dlpi_addr + part->p_vaddr;
        if (part->p_type == PT_GNU_EH_FRAME) {
            eh_frame = (void *)start;
        } else if (part->p_type == PT_LOAD && search->pc - start < part->p_memsz) {
            is_inside = 1;
            search->found->map_start = (void *)start;
            search->found->map_end = (void *)(start + part->p_memsz);
        }
    }
    search->found->flags = 0;
    search->found->link_map = 0;
    search->found->eh_frame = eh_frame;
    return is_inside && eh_frame;
}

int _dl_find_object(void *pc, struct dl_find_object *found) {
    struct search search = { (ElfW(Addr))pc, found };
    return dl_iterate_phdr(look_into, &search) ? 0 : -1;
}
