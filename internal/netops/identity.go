package netops

// Identity tells a namespace from every other one that is found at its path
// later: by the kernel's cookie, which is unique until reboot
// (SO_NETNS_COOKIE, Linux 5.14), on older kernels by an interface in it.
// Inode numbers would not do: they are given again at once.
type Identity struct {
	Cookie       uint64 `json:"cookie"`
	LinkIndex    uint32 `json:"linkIndex"`
	HardwareAddr string `json:"hardwareAddr"`
}
