def _tree(ctx):
    out = ctx.actions.declare_directory(ctx.label.name + ".d")
    ctx.actions.run_shell(
        outputs = [out],
        arguments = [out.path],
        mnemonic = "Tree",
        command = "mkdir -p $1/a/b $1/empty; echo x > $1/a/b/f; ln -s b/f $1/a/link; " +
                  "printf '#!/bin/sh\necho ran\n' > $1/run; chmod +x $1/run",
    )
    return [DefaultInfo(files = depset([out]))]

tree = rule(implementation = _tree)

def _link(ctx):
    out = ctx.actions.declare_symlink(ctx.label.name + ".sym")
    ctx.actions.run_shell(
        outputs = [out],
        arguments = [out.path],
        mnemonic = "Link",
        command = "ln -s no/where $1",
    )
    return [DefaultInfo(files = depset([out]))]

link = rule(implementation = _link)

def _test(ctx):
    out = ctx.actions.declare_file(ctx.label.name + ".sh")
    ctx.actions.write(out, "#!/bin/sh\ntest -f pkg/in.txt\n", is_executable = True)
    return [DefaultInfo(
        executable = out,
        runfiles = ctx.runfiles(files = [ctx.file.data]),
    )]

script_test = rule(
    implementation = _test,
    test = True,
    attrs = {"data": attr.label(allow_single_file = True)},
)
