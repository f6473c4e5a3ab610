# The guest of the KVM proof: from the reset vector through real and protected mode into 64-bit mode with
# paging, there 20 million rounds of a loop, and then a byte to QEMU's isa-debug-exit port.
#
# It is the last 256 bytes of a 64 KiB firmware image, which the CPU sees at the end of 4 GiB. To assemble
# it anew, in this directory:
#   as --64 long_mode_loop.s -o /tmp/loop.o
#   ld -Ttext=0 -e 0 --oformat binary /tmp/loop.o -o /tmp/loop.rom && tail -c 256 /tmp/loop.rom > long_mode_loop.bin
.set BASE, 0xffff0000
.org 0xff00
.code16
start:
  cli
  lgdtl %cs:gdtr
  mov %cr0,%eax
  or $1,%al
  mov %eax,%cr0
  ljmpl $0x08,$(BASE+prot)
.code32
prot:
  mov $0x10,%ax
  mov %ax,%ds
  # Page tables in zeroed RAM: the 2 MiB page that holds this code, at its own address.
  movl $0x2003,0x1000
  movl $0x3003,0x2018
  movl $0xffe00083,0x3ff8
  mov $0x1000,%eax
  mov %eax,%cr3
  mov %cr4,%eax
  or $0x20,%eax
  mov %eax,%cr4
  mov $0xc0000080,%ecx
  rdmsr
  or $0x100,%eax
  wrmsr
  mov %cr0,%eax
  or $0x80000000,%eax
  mov %eax,%cr0
  ljmp $0x18,$(BASE+long)
.code64
long:
  # A tenth of a second when emulated, a hundredth under KVM, for ever where KVM only pretends.
  mov $20000000,%ecx
1: dec %ecx
  jnz 1b
  mov $0x10,%al
  out %al,$0xf4
2: hlt
  jmp 2b
.balign 8, 0
gdt:
  .quad 0
  .quad 0x00cf9b000000ffff
  .quad 0x00cf93000000ffff
  .quad 0x00af9b000000ffff
gdtr:
  .word 31
  .long BASE+gdt
.org 0xfff0
.code16
  jmp start
.org 0x10000
