"""`bench doctor`: what is wrong with a machine for this work, each problem with its cure.

`facts` asks NVML, files and a child; `problems` turns facts into sentences purely; `doctor` joins
them. A new check is a
function in `problems`, with a fact in `facts` if it needs one. Repairs nothing.
"""
