import asyncio, json, tempfile, time, sys
from pathlib import Path
sys.path.insert(0,'.')
from tests.fake_backend import *
from tests.sample_crews import crew_body
from kasal_jupyter.store.store import Store
from kasal_jupyter.memory.findable import SCHEMAS
from kasal_jupyter.crews.crews import Crews
from kasal_jupyter.executions.service import Runs
from kasal_jupyter.executions.queue import RunLimits
from kasal_jupyter.executions.batches.batches import *
from kasal_jupyter.executions.batches import rows
from kasal_jupyter.models.catalog import ModelCatalog
from kasal_jupyter.schemas.crews import CrewCreate
import logging; logging.basicConfig(level=logging.INFO)
async def main(n):
    tmp=Path(tempfile.mkdtemp())
    with Store.open(tmp,SCHEMAS) as store:
        crews=Crews(store)
        whole=await crews.create(CrewCreate.model_validate(crew_body()),"jupyter")
        runs=Runs(store,tmp,FakeBackend(),ModelCatalog(environ={}),limits=RunLimits(running=16,running_per_user=16))
        b=Batches(runs,crews,most_bytes=1<<20)
        t=time.time(); cc=time.process_time()
        batch,new=await b.make(Wanted(BatchOptions(crew_id=whole.crew.id,name="x")),lambda:[GivenRow({"topic":f"t{i%(n-3)}"}) for i in range(n)],"jupyter",size=n)
        print("made",time.time()-t)
        while True:
            told=await b.told(b.get(batch.id))
            if told.status!="running": break
            await asyncio.sleep(0.2)
        print(time.time()-t, time.process_time()-cc)
        print(rows.page(store,batch,limit=1), rows.page(store,batch,status="completed",after=n-2))
        b.end(); await runs.close()
asyncio.run(main(int(sys.argv[1])))
