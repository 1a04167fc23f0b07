/* Linked into the static binary. There glibc loads the modules that
   /etc/nsswitch.conf names for hosts, such as `resolve` and `mdns4_minimal`, and
   one that was made for another glibc ends the process (SIGFPE, seen on
   Debian 13). So names are looked up without any. */

#include <nss.h>

__attribute__((constructor)) static void use_no_modules(void)
{
    __nss_configure_lookup("hosts", "files dns");
}
