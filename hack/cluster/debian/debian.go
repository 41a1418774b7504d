// Package debian installs the few programs that the cluster takes from the distribution.
package debian

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// packages maps each package to a program it brings; what is already there, from wherever, is not installed again.
var packages = []struct{ name, program string }{
	{"runc", "runc"},
	{"containernetworking-plugins", "ptp"},
	{"nftables", "nft"},
	{"iptables", "iptables"},
	{"iproute2", "ip"},
	{"conntrack", "conntrack"},
	{"e2fsprogs", "mkfs.ext4"},
	{"mount", "mount"},
}

// Programs are where the needed ones were found.
type Programs struct {
	Runc    string
	Plugins string
}

// folders are searched besides PATH, which in a user's shell lacks the administrator's.
var folders = []string{"/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/lib/cni", "/opt/cni/bin"}

func find(program string) string {
	if path, err := exec.LookPath(program); err == nil {
		return path
	}
	for _, folder := range folders {
		path := filepath.Join(folder, program)
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// Ensure installs what is missing.
func Ensure(progress io.Writer) (Programs, error) {
	if names := missing(); len(names) > 0 {
		if err := install(progress, names); err != nil {
			return Programs{}, err
		}
		if still := missing(); len(still) > 0 {
			return Programs{}, fmt.Errorf("packages %s are installed but their programs are not found: "+
				"look with `dpkg -L PACKAGE`", strings.Join(still, ", "))
		}
	}
	return Programs{Runc: find("runc"), Plugins: filepath.Dir(find("ptp"))}, nil
}

// Program finds one program that only some need, and installs the package that brings it when it is missing.
func Program(progress io.Writer, name, program string) (string, error) {
	if find(program) == "" {
		if err := install(progress, []string{name}); err != nil {
			return "", err
		}
	}
	path := find(program)
	if path == "" {
		return "", fmt.Errorf("package %s is installed but %s is not found: look with `dpkg -L %s`", name, program, name)
	}
	return path, nil
}

func missing() []string {
	var names []string
	for _, wanted := range packages {
		if find(wanted.program) == "" {
			names = append(names, wanted.name)
		}
	}
	return names
}

func install(progress io.Writer, names []string) error {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("packages are missing and there is no apt-get to install them with: install what your "+
			"distribution calls %s", strings.Join(names, ", "))
	}
	fmt.Fprintf(progress, "installing %s\n", strings.Join(names, ", "))
	for _, args := range [][]string{
		{"update", "-q"},
		append([]string{"install", "-q", "-y", "--no-install-recommends"}, names...),
	} {
		command := exec.Command("apt-get", args...)
		command.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if output, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("running apt-get %s: %w:\n%s", strings.Join(args, " "), err, output)
		}
	}
	return nil
}
